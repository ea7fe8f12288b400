"""Behaviour cloning with a multilayer perceptron: regression from observations to actions (Pomerleau 1989)."""

from __future__ import annotations

import torch

from ilbook.data.windows import Windows
from ilbook.nets.mlp import MLP
from ilbook.policies.base import Policy


class MLPPolicy(Policy):
    """Predicts all actions of a chunk at once; `horizon` 1 is classic behaviour cloning (Zhao et al. 2023 for more)."""

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        windows: Windows,
        width: int = 256,
        depth: int = 3,
        relative_to: tuple[int, ...] | None = None,
    ):
        super().__init__(obs_size, action_size, windows, relative_to)
        self.net = MLP(windows.n_obs * obs_size, windows.horizon * action_size, width, depth)

    def _predict(self, obs: torch.Tensor) -> torch.Tensor:
        features = self.obs_normaliser(obs).flatten(1)  # (B, n_obs * O)
        return self.net(features).unflatten(1, (self.windows.horizon, self.action_size))  # (B, H, A)

    def loss(self, obs, action, valid, generator=None):
        error = self._predict(obs) - self.to_targets(obs, action)
        return (error.square().mean(dim=-1) * valid).sum() / valid.sum()

    @torch.inference_mode()
    def act(self, obs, generator=None):
        return self.to_actions(obs, self._predict(obs))
