"""Windows: which steps around one moment a policy sees and predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError


@dataclass(frozen=True)
class Windows:
    """What a policy sees and predicts at one step: the last `n_obs` observations, the next `horizon` actions.

    At the edges of an episode the first observation and the last action are repeated (Chi et al. 2023); `valid` tells
    the actions that were really demonstrated.
    """

    n_obs: int = 1
    horizon: int = 1

    def __post_init__(self):
        if self.n_obs < 1 or self.horizon < 1:
            raise UserError(f"a window needs n_obs >= 1 and horizon >= 1, not {self.n_obs} and {self.horizon}")

    def indices(self, episodes: Episodes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every step: rows of its observations (T, n_obs), of its actions (T, horizon), valid (T, horizon)."""
        now = np.arange(episodes.n_steps)[:, None]
        first = np.repeat(episodes.starts, episodes.lengths)[:, None]
        last = np.repeat(episodes.episode_ends - 1, episodes.lengths)[:, None]
        past = np.maximum(now + np.arange(1 - self.n_obs, 1), first)
        future = now + np.arange(self.horizon)
        return past, np.minimum(future, last), future <= last
