"""Windows: which steps around one moment a policy sees and predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError


class Rows(NamedTuple):
    """Rows of the flat arrays for every step, and which actions were really demonstrated."""

    obs: np.ndarray  # (T, n_obs)
    action: np.ndarray  # (T, horizon), to come
    valid: np.ndarray
    past: np.ndarray  # (T, n_past), before
    past_valid: np.ndarray


@dataclass(frozen=True)
class Windows:
    """What a policy sees and predicts at one step. At the edges of an episode the first observation and the first or
    last action are repeated (Chi et al. 2023).
    """

    n_obs: int = 1  # observations, up to now
    horizon: int = 1  # actions, from now on
    n_past: int = 0  # actions before them: recurrent losses, contexts, Diffusion Policy's alignment

    def __post_init__(self):
        if self.n_obs < 1 or self.horizon < 1 or self.n_past < 0:
            given = f"{self.n_obs}, {self.horizon} and {self.n_past}"
            raise UserError(f"a window needs n_obs >= 1, horizon >= 1 and n_past >= 0, not {given}")

    def indices(self, episodes: Episodes) -> Rows:
        """The rows of the window around every step of the episodes."""
        used.note("data.windows")
        now = np.arange(episodes.n_steps)[:, None]
        first = np.repeat(episodes.starts, episodes.lengths)[:, None]
        last = np.repeat(episodes.episode_ends - 1, episodes.lengths)[:, None]
        seen = np.maximum(now + np.arange(1 - self.n_obs, 1), first)
        future = now + np.arange(self.horizon)
        past = now + np.arange(-self.n_past, 0)
        return Rows(seen, np.minimum(future, last), future <= last, np.maximum(past, first), past >= first)
