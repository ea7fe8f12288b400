"""Batch samplers: where a loss gets its examples from, as tensors in memory."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Protocol

import numpy as np
import torch

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, unknown
from ilbook.policies.base import Batch, Policy, device


class Batches(Protocol):
    """What `fit` learns from."""

    def prepare(self, policy: Policy) -> None:
        """Fit the normalisers of the policy that are not fitted, and make ready for its windows and inputs."""

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        """A batch of `size` examples; the generator is the only source of chance."""


class WindowBatches:
    """Windows around steps of episodes, all equally likely or by `weights` (T,), one for each step."""

    def __init__(self, episodes: Episodes, weights: np.ndarray | None = None):
        used.note("learning.batches")
        self.episodes = episodes
        if weights is not None:
            weights = np.asarray(weights, dtype=float)
            if weights.shape != (episodes.n_steps,) or not (weights >= 0).all() or not weights.any():
                raise UserError(f"weights have shape {weights.shape}; give {episodes.n_steps} numbers >= 0, not all 0")
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)

    def prepare(self, policy: Policy) -> None:
        episodes = self.episodes
        wanted = policy.inputs | {"action": (policy.action_size,)}
        for name, shape in wanted.items():
            if name not in episodes.arrays:
                raise unknown(f"array that {type(policy).__name__} looks at", name, episodes.arrays)
            if (found := episodes[name].shape[1:]) != tuple(shape):
                raise UserError(f"{type(policy).__name__} takes {name!r} of shape {shape}; the episodes have {found}")
        policy.fit_normalisers(episodes)
        self.named_action, self.place = "action" in policy.inputs, device()
        self.rows = [torch.as_tensor(rows) for rows in policy.windows.indices(episodes)]
        tensors = {name: torch.as_tensor(episodes[name], device=self.place) for name in wanted}
        self.arrays = {name: one if one.dtype == torch.uint8 else one.float() for name, one in tensors.items()}

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        if self.weights is None:
            chosen = torch.randint(self.episodes.n_steps, (size,), generator=generator)
        else:
            chosen = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        _, future, valid, past, past_valid = (rows[chosen].to(self.place) for rows in self.rows)
        action = self.arrays["action"]
        before = action[past] * past_valid[..., None]
        obs = self.look(chosen, generator)
        if self.named_action:
            obs |= {"action": before, "action_valid": past_valid}
        return Batch(obs, action[future], valid, before, past_valid)

    def look(self, chosen: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """What the policy sees at the chosen steps (B,), actions aside."""
        seen = self.rows[0][chosen].to(self.place)
        return {name: array[seen] for name, array in self.arrays.items() if name != "action"}


class GoalBatches(WindowBatches):
    """Goals in hindsight: what was reached `ahead` steps or less later in the same episode is what was wanted.

    `achieved` names the array (T, G) whose future values are the goals (Lynch et al. 2020, play; HER's "future").
    """

    def __init__(self, episodes: Episodes, achieved: str, ahead: int = 1_000_000, weights: np.ndarray | None = None):
        super().__init__(episodes.with_array("goal", episodes[achieved]), weights)
        self.ahead = ahead
        self.last = torch.as_tensor(np.repeat(episodes.episode_ends - 1, episodes.lengths))

    def look(self, chosen, generator):
        room = torch.clamp(self.last[chosen] - chosen, max=self.ahead)
        share = torch.rand(len(chosen), generator=generator)
        later = chosen + torch.minimum((share * (room + 1)).long(), room)
        return super().look(chosen, generator) | {"goal": self.arrays["goal"][later.to(self.place)]}


class MixedBatches:
    """Half of each batch from one source, half from another: own experience beside demonstrations (RLPD)."""

    def __init__(self, first: Batches, second: Batches):
        used.note("learning.batches")
        self.first, self.second = first, second

    def prepare(self, policy: Policy) -> None:
        self.first, self.second = copy.copy(self.first), copy.copy(self.second)
        self.first.prepare(policy)  # its ranges count: the second finds the normalisers fitted
        self.second.prepare(policy)

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        parts = [self.first.draw(size - size // 2, generator), self.second.draw(size // 2, generator)]
        obs = {name: torch.cat([part.obs[name] for part in parts]) for name in parts[0].obs}
        rest = {field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Batch)[1:]}
        return Batch(obs, **rest)
