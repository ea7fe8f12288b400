"""Page 04: a solution of each exercise, and wrong answers that its check must refuse."""


# exercise: 1
def ends_of(lengths):
    """`episode_ends` for episodes of these lengths."""
    return np.cumsum(lengths)


# wrong: 1
def ends_of(lengths):
    # the last step of each episode, not the first after it
    return np.cumsum(lengths) - 1


# wrong: 1
def ends_of(lengths):
    # the beginnings
    return np.cumsum(lengths) - np.array(lengths)


# wrong: 1
def ends_of(lengths):
    # as if all episodes were equally long
    return np.arange(1, len(lengths) + 1) * (sum(lengths) // len(lengths))


# exercise: 2
def next_actions(episode_ends, horizon):
    """Rows (T, horizon) of the actions that each step's window holds."""
    lengths = np.diff(episode_ends, prepend=0)
    last = np.repeat(np.array(episode_ends) - 1, lengths)  # (T,), by step
    steps = np.arange(len(last))[:, None] + np.arange(horizon)
    return np.minimum(steps, last[:, None])


# wrong: 2
def next_actions(episode_ends, horizon):
    # reaches into the next episode
    steps = np.arange(episode_ends[-1])[:, None] + np.arange(horizon)
    return np.minimum(steps, episode_ends[-1] - 1)


# wrong: 2
def next_actions(episode_ends, horizon):
    # begins one step late
    lengths = np.diff(episode_ends, prepend=0)
    last = np.repeat(np.array(episode_ends) - 1, lengths)
    return np.minimum(np.arange(len(last))[:, None] + np.arange(1, horizon + 1), last[:, None])


# wrong: 2
def next_actions(episode_ends, horizon):
    # may touch the first step of the next episode
    lengths = np.diff(episode_ends, prepend=0)
    last = np.repeat(np.array(episode_ends), lengths)
    return np.minimum(np.arange(len(last))[:, None] + np.arange(horizon), last[:, None])


# wrong: 2
def next_actions(episode_ends, horizon):
    # the past
    lengths = np.diff(episode_ends, prepend=0)
    first = np.repeat(np.array(episode_ends) - lengths, lengths)
    return np.maximum(np.arange(len(first))[:, None] - np.arange(horizon), first[:, None])


# exercise: 3
def worth_keeping(episodes):
    """Indices of the episodes to keep."""
    return np.argsort(episodes.lengths)[: len(episodes) // 2]  # the quicker half


# wrong: 3
def worth_keeping(episodes):
    # the slower half
    return np.argsort(episodes.lengths)[len(episodes) // 2 :]


# wrong: 3
def worth_keeping(episodes):
    # whatever was recorded first
    return np.arange(len(episodes) // 2)


# wrong: 3
def worth_keeping(episodes):
    # too few
    return np.argsort(episodes.lengths)[:20]


# wrong: 3
def worth_keeping(episodes):
    # the neighbours of the quick ones
    return (np.argsort(episodes.lengths)[: len(episodes) // 2] + 1) % len(episodes)
