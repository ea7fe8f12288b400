"""Page 05: a solution of each exercise, and wrong answers that its check must refuse."""

# exercise: 1
level = max(p for p in np.geomspace(0.001, 0.05, 200) if alarms_at(p) <= ALPHA)

# wrong: 1
level = ALPHA

# wrong: 1
level = ALPHA / (PLANNED - FIRST_LOOK + 1)

# wrong: 1
level = 1 - ALPHA

# wrong: 1
level = ALPHA / 100


# exercise: 2
def lowest_rate(n):
    """The rate at which n successes in n episodes have probability 0.05."""
    return 0.05 ** (1 / n)


# wrong: 2
def lowest_rate(n):
    # the rule of three, which is nearly right
    return max(1 - 3 / n, 0.0)


# wrong: 2
def lowest_rate(n):
    # no failure in n episodes of a policy that fails at this rate
    return 1 - 0.05 ** (1 / n)


# wrong: 2
def lowest_rate(n):
    # the probability on the other side
    return 0.95 ** (1 / n)


# wrong: 2
def lowest_rate(n):
    # half of it on either side
    return 0.025 ** (1 / n)


# exercise: 3
episodes = power.sample_size(0.6, 0.7)

# wrong: 3
episodes = 2 * power.sample_size(0.6, 0.7)

# wrong: 3
episodes = power.sample_size(0.6, 0.7) // 2

# wrong: 3
episodes = power.sample_size(0.5, 0.7)

# wrong: 3
episodes = 100
