"""Page 01: a solution of each exercise, and wrong answers that its check must refuse."""


# exercise: 1
def pause_share(episodes):
    """Share of the steps whose action is less than 1 mm from the commanded position."""
    moves = np.linalg.norm(episodes["action"] - episodes["state"][:, 5:7], axis=1)
    return (moves < 0.001).mean()


# wrong: 1
def pause_share(episodes):
    # the other steps: those that are no pauses
    moves = np.linalg.norm(episodes["action"] - episodes["state"][:, 5:7], axis=1)
    return (moves >= 0.001).mean()


# wrong: 1
def pause_share(episodes):
    # from where the pusher is, not from where it was told to be
    moves = np.linalg.norm(episodes["action"] - episodes["state"][:, :2], axis=1)
    return (moves < 0.001).mean()


# wrong: 1
def pause_share(episodes):
    # each coordinate for itself
    moves = np.abs(episodes["action"] - episodes["state"][:, 5:7]).max(axis=1)
    return (moves < 0.001).mean()


# wrong: 1
def pause_share(episodes):
    # a centimetre for a millimetre
    moves = np.linalg.norm(episodes["action"] - episodes["state"][:, 5:7], axis=1)
    return (moves < 0.01).mean()


# exercise: 2
def largest_drift(rollout):
    """Largest distance (m) to the data in each episode: a list of numbers."""
    return [float(drift(states).max()) for states in rollout.states]


# wrong: 2
def largest_drift(rollout):
    # the smallest
    return [float(drift(states).min()) for states in rollout.states]


# wrong: 2
def largest_drift(rollout):
    # where the episode ended
    return [float(drift(states)[-1]) for states in rollout.states]


# wrong: 2
def largest_drift(rollout):
    # on average
    return [float(drift(states).mean()) for states in rollout.states]


# wrong: 2
def largest_drift(rollout):
    # of all episodes together
    largest = max(float(drift(states).max()) for states in rollout.states)
    return [largest for _ in rollout.states]


# exercise: 3
def make_absolute():
    """A one-step policy whose actions are positions on the table."""
    windows = data.Windows(n_obs=1, horizon=1)
    return MLPPolicy(obs_size=18, action_size=2, windows=windows, width=320, depth=3)


# wrong: 3
def make_absolute():
    # a chunk
    return MLPPolicy(obs_size=18, action_size=2, windows=data.Windows(n_obs=1, horizon=4), width=320, depth=3)


# wrong: 3
def make_absolute():
    # relative to a corner of the block
    return MLPPolicy(
        obs_size=18, action_size=2, windows=data.Windows(n_obs=1, horizon=1), width=320, depth=3, relative_to=(2, 3)
    )


# wrong: 3
def make_absolute():
    # a smaller network, so that two things change at once
    return MLPPolicy(obs_size=18, action_size=2, windows=data.Windows(n_obs=1, horizon=1), width=64, depth=3)
