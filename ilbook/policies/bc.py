"""Behaviour cloning with a multilayer perceptron: regression from observations to actions (Pomerleau 1989)."""

from __future__ import annotations

from ilbook.data.windows import Windows
from ilbook.nets.mlp import MLP
from ilbook.policies.base import Plan, Policy


class MLPPolicy(Policy):
    """Predicts all actions of a chunk at once; `horizon` 1 is classic behaviour cloning (Zhao et al. 2023 for more)."""

    def __init__(self, obs_size: int, action_size: int, windows: Windows, width=256, depth=3, relative_to=None):
        super().__init__({"obs": (obs_size,)}, action_size, windows, relative_to)
        self.net = MLP(windows.n_obs * obs_size, windows.horizon * action_size, width, depth)

    def predict(self, obs):
        """The network's output (B, H, A), normalised."""
        features = self.embed(obs)  # (B, n_obs * O)
        return self.net(features).unflatten(1, (self.windows.horizon, self.action_size))

    def loss(self, batch, generator=None):
        error = self.predict(batch.obs) - self.to_targets(batch.obs, batch.action)
        return (error.square().mean(dim=-1) * batch.valid).sum() / batch.valid.sum()

    def plan(self, obs, noise, promise, memory, fresh):
        return Plan(self.to_actions(obs, self.predict(obs)))
