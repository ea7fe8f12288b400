"""What every policy is: windows of observations in, chunks of actions out, and a loss to learn from."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ilbook.data.episodes import Episodes
from ilbook.data.normalise import Normaliser
from ilbook.data.windows import Windows


class Policy(nn.Module, ABC):
    """Maps the last n_obs observations (B, n_obs, O) to the next `horizon` actions (B, H, A), in SI units.

    Its normalisers are child modules, so that its state dict restores everything. Learners train it, controllers decide
    how much of a chunk is executed. `relative_to` names the entries of the last observation that hold the present
    position; the network then predicts how far each action lies from it, as in Chi et al. 2024 (UMI), which keeps small
    moves visible beside a large workspace.
    """

    def __init__(self, obs_size: int, action_size: int, windows: Windows, relative_to: tuple[int, ...] | None = None):
        super().__init__()
        self.obs_size, self.action_size, self.windows = obs_size, action_size, windows
        self.relative_to = None if relative_to is None else list(relative_to)
        self.obs_normaliser = Normaliser(obs_size)
        self.action_normaliser = Normaliser(windows.horizon, action_size)  # later actions lie farther away

    def fit_normalisers(self, episodes: Episodes) -> None:
        """Take all ranges from the demonstrations, the actions' per step of the chunk."""
        self.obs_normaliser.fit(episodes["obs"])
        past, future, _ = self.windows.indices(episodes)
        actions = episodes["action"][future]  # (T, H, A)
        if self.relative_to is not None:
            actions = actions - episodes["obs"][past[:, -1:]][..., self.relative_to]
        self.action_normaliser.fit(actions)

    def _origin(self, obs: torch.Tensor) -> torch.Tensor | float:
        return 0.0 if self.relative_to is None else obs[:, -1:, self.relative_to]  # (B, 1, A)

    def to_targets(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """What the network should put out for actions (B, H, A): in [-1, 1]."""
        return self.action_normaliser(action - self._origin(obs))

    def to_actions(self, obs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Actions (B, H, A), metres, from the network's output."""
        return self.action_normaliser.inverse(output) + self._origin(obs)

    @abstractmethod
    def loss(
        self, obs: torch.Tensor, action: torch.Tensor, valid: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Mean loss (scalar) of obs (B, n_obs, O), action (B, H, A), valid (B, H); padded actions do not count."""

    @abstractmethod
    def act(self, obs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Chunks (B, H, A) for observation windows (B, n_obs, O); the generator is the only source of chance."""
