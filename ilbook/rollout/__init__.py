"""Rollouts: the one loop, and what is made of it."""

WALL_TIME = "wall_seconds"  # the one column of a rollout table that the seed does not determine
EVALUATED: list[str] = []  # policies, in the order in which this process evaluated them: a claim declared later is late
