"""Page 02: a solution of each exercise, and wrong answers that its check must refuse."""


# exercise: 1
def evenness(counts):
    """Entropy of counts to the base len(counts), from 0 to 1."""
    shares = np.array(counts) / np.sum(counts)
    seen = shares[shares > 0]  # a share of 0 contributes nothing
    return -(seen * np.log(seen)).sum() / np.log(len(shares))


# wrong: 1
def evenness(counts):
    # in natural units
    shares = np.array(counts) / np.sum(counts)
    seen = shares[shares > 0]
    return -(seen * np.log(seen)).sum()


# wrong: 1
def evenness(counts):
    # the base is the number of ways that were seen
    shares = np.array(counts) / np.sum(counts)
    seen = shares[shares > 0]
    return -(seen * np.log(seen)).sum() / np.log(max(len(seen), 2))


# wrong: 1
def evenness(counts):
    # the wrong sign
    shares = np.array(counts) / np.sum(counts)
    seen = shares[shares > 0]
    return (seen * np.log(seen)).sum() / np.log(len(shares))


# wrong: 1
def evenness(counts):
    # Simpson's index, scaled to lie between 0 and 1
    shares = np.array(counts) / np.sum(counts)
    return (1 - (shares**2).sum()) * len(shares) / (len(shares) - 1)


# wrong: 1
def evenness(counts):
    # Rényi's entropy of order two
    shares = np.array(counts) / np.sum(counts)
    return -np.log((shares**2).sum()) / np.log(len(shares))


# exercise: 2
def share_left(point, radius=0.01):
    """Share of the demonstrations within `radius` of `point` (2,) that go left."""
    passing = [np.linalg.norm(path - point, axis=1).min() < radius for path in paths]
    return to_left[passing].mean()


# wrong: 2
def share_left(point, radius=0.01):
    # those that go right
    passing = [np.linalg.norm(path - point, axis=1).min() < radius for path in paths]
    return 1 - to_left[passing].mean()


# wrong: 2
def share_left(point, radius=0.01):
    # of all demonstrations, not of those that pass
    passing = np.array([np.linalg.norm(path - point, axis=1).min() < radius for path in paths])
    return (to_left & passing).mean()


# wrong: 2
def share_left(point, radius=0.01):
    # a slow path counts more than a quick one
    near = [(np.linalg.norm(path - point, axis=1) < radius).sum() for path in paths]
    return np.average(to_left, weights=near)


# wrong: 2
def share_left(point, radius=0.01):
    # the radius that is given is not used
    passing = [np.linalg.norm(path - point, axis=1).min() < 0.01 for path in paths]
    return to_left[passing].mean()


# exercise: 3
middle_ways = [way for way, name in enumerate(MODE_NAMES) if name.split("-")[1] == "M"]

# wrong: 3
middle_ways = [way for way, name in enumerate(MODE_NAMES) if name.split("-")[1] == "L"]

# wrong: 3
middle_ways = [way + 1 for way, name in enumerate(MODE_NAMES) if name.split("-")[1] == "M"]

# wrong: 3
middle_ways = [way for way, name in enumerate(MODE_NAMES) if name.startswith("L-M")] * 2
