"""What every policy is: windows of observations in, chunks of actions out, and a loss to learn from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.data.normalise import Normaliser
from ilbook.data.windows import Windows
from ilbook.errors import UserError

Arrays = dict[str, torch.Tensor]
Shape = tuple[int, ...]  # for one copy
Promise = tuple[torch.Tensor, torch.Tensor]  # action (B, H, A) and weight (B, H)
Level = float | torch.Tensor  # of noise: one for all, or what fits to (B, H, A), as where each action has its own


@dataclass(frozen=True)
class Batch:
    """What a loss sees of B steps."""

    obs: Arrays  # (B, n_obs, ...) by name
    action: torch.Tensor  # (B, H, A), to come
    valid: torch.Tensor  # (B, H)
    past: torch.Tensor  # (B, n_past, A), those before; zero where not valid
    past_valid: torch.Tensor  # (B, n_past)


@dataclass(frozen=True)
class Plan:
    """What a policy answers: a chunk (B, H, A), SI units, and what it wants to remember, arrays (B, ...)."""

    chunk: torch.Tensor
    memory: Arrays | None = None


class Policy(nn.Module, ABC):
    """A function from what B copies saw to the next `horizon` actions, in SI units; `act` checks, `plan` answers.

    `inputs` names what it looks at and the shape of one step of it, as in {"obs": (18,)}; "goal" is not windowed, and
    "action" stands for the executed actions (B, n_past, A) beside "action_valid". `relative_to` names the entries of
    the last "obs" that hold the present position, from which the network then predicts (Chi et al. 2024, UMI).
    """

    noise_shape: Shape | None = None  # of the standard normal numbers that one answer takes; None: no chance
    memory_shapes: Mapping[str, Shape] = {}  # what a copy remembers from one look to the next
    stride: int | None = None  # dictates how many actions are executed
    columns: Mapping[str, object] = {}  # what tells it apart in a table

    def __init__(self, inputs: dict[str, Shape], action_size: int, windows: Windows, relative_to: Shape | None = None):
        super().__init__()
        used.note("policies.base")
        used.note_type(type(self))
        self.inputs, self.action_size, self.windows = dict(inputs), action_size, windows
        self.relative_to = None if relative_to is None else list(relative_to)
        flat = {name: shape for name, shape in inputs.items() if name not in ("action", "image")}
        self.normalisers = nn.ModuleDict({name: Normaliser(*shape) for name, shape in flat.items()})
        self.action_normaliser = Normaliser(windows.horizon, action_size)  # later actions lie farther away

    def fit_normalisers(self, episodes: Episodes) -> None:
        """Take the ranges from the demonstrations, the actions' per step of the chunk; what is fitted stays."""
        for name, normaliser in self.normalisers.items():
            if not normaliser.fitted:
                normaliser.fit(episodes[name])
        if not self.action_normaliser.fitted:
            rows = self.windows.indices(episodes)
            action = episodes["action"][rows.action]  # (T, H, A)
            if self.relative_to is not None:
                action = action - episodes["obs"][rows.obs[:, -1:]][..., self.relative_to]
            self.action_normaliser.fit(action)

    def _origin(self, obs: Arrays) -> torch.Tensor | float:
        return 0.0 if self.relative_to is None else obs["obs"][:, -1:, self.relative_to]  # (B, 1, A)

    def to_targets(self, obs: Arrays, action: torch.Tensor) -> torch.Tensor:
        """What the network should put out for actions (B, H, A): in [-1, 1]."""
        return self.action_normaliser(action - self._origin(obs))

    def to_actions(self, obs: Arrays, output: torch.Tensor) -> torch.Tensor:
        """Actions (B, H, A), metres, from the network's output."""
        return self.action_normaliser.inverse(output) + self._origin(obs)

    def embed(self, obs: Arrays) -> torch.Tensor:
        """Features (B, E) of what it sees, for monitors; here the normalised observations, one after the other."""
        return torch.cat([normaliser(obs[name]).flatten(1) for name, normaliser in self.normalisers.items()], dim=1)

    def act(self, obs: Arrays, noise=None, promise: Promise | None = None, memory=None, fresh=None) -> Plan:
        """Chunks (B, H, A) for what B copies see, after a check of all shapes.

        `noise` (B, *noise_shape); `promise` = action (B, H, A) and weight (B, H), 1 for what will happen anyway and 0
        for what is free; `memory` as the last plan gave it; `fresh` (B,) marks copies that look for the first time,
        whose memory is not looked at: by default all without a memory, none with one.
        """
        n, place = next(((len(array), array.device) for array in obs.values()), (0, None))
        if fresh is None:
            fresh = torch.full((n,), memory is None, device=place)
        if memory is None:
            memory = {name: torch.zeros(n, *shape, device=place) for name, shape in self.memory_shapes.items()}
        takes = {"fresh": (), **self.memory_shapes} | ({} if self.noise_shape is None else {"noise": self.noise_shape})
        given = {"fresh": fresh, **memory} | ({} if noise is None else {"noise": noise})
        if more := given.keys() - takes.keys():
            raise UserError(f"{type(self).__name__} takes no {', '.join(sorted(more))}; leave it out")
        chunk = (self.windows.horizon, self.action_size)
        self._fits("got", self._looks() | takes, obs | given, n)
        if promise is not None:
            promised = {"promised action": chunk, "promised weight": chunk[:1]}
            self._fits("got", promised, dict(zip(promised, promise, strict=True)), n)
        plan = self.plan(obs, noise, promise, memory, fresh)
        self._fits("planned", {"chunk": chunk, **self.memory_shapes}, {"chunk": plan.chunk, **(plan.memory or {})}, n)
        return plan

    def _looks(self) -> dict[str, Shape]:
        """The shapes, for one copy, of all that it looks at."""
        past = (self.windows.n_past,)
        steps = {"goal": (), "action": past, "action_valid": past}
        shapes = self.inputs | ({"action_valid": ()} if "action" in self.inputs else {})
        return {name: (*steps.get(name, (self.windows.n_obs,)), *shape) for name, shape in shapes.items()}

    def _fits(self, verb: str, wanted: Mapping[str, Shape], given: Arrays, n: int) -> None:
        """Refuse what lacks, or has another shape than `wanted` for each of n copies."""
        for name, shape in wanted.items():
            found = tuple(given[name].shape) if name in given else None
            if found != (n, *shape):
                what = "none" if found is None else f"one of shape {found}"
                raise UserError(f"{type(self).__name__} needs {name!r} of shape {(n, *shape)} and {verb} {what}")

    @abstractmethod
    def plan(self, obs: Arrays, noise, promise: Promise | None, memory: Arrays, fresh: torch.Tensor) -> Plan:
        """`act` for arguments that fit; where `fresh`, memory holds nothing yet. The noise is the only chance."""

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> torch.Tensor:
        """Mean loss (scalar) of a batch; padded actions do not count, the generator is the only source of chance."""
        raise UserError(f"{type(self).__name__} has no loss and cannot be trained; train the policy that it wraps")


class ChunkSampler(Policy):
    """A policy that makes its chunk out of noise, in steps: x = signal(level) clean + spread(level) noise.

    Levels run from 1, noise alone, to 0, the clean chunk. A schedule is its `signal` and `spread`; the ones here are
    flow matching's straight line (Lipman et al. 2023). Chunks are normalised in `denoise`, `sample` and guides.
    """

    n_steps: int = 10  # of the sampler

    def __init__(self, inputs, action_size, windows, relative_to=None):
        super().__init__(inputs, action_size, windows, relative_to)
        self.noise_shape = (windows.horizon, action_size)

    @property
    def columns(self):
        return {"n_steps": self.n_steps}

    def signal(self, level: Level) -> Level:
        return 1.0 - level

    def spread(self, level: Level) -> Level:
        return level

    @abstractmethod
    def denoise(self, x: torch.Tensor, level: Level, obs: Arrays) -> torch.Tensor:
        """The clean chunk (B, H, A) that the policy sees in x (B, H, A) at this level."""

    def sample(self, obs: Arrays, noise: torch.Tensor, n_steps: int | None = None, guide=None) -> torch.Tensor:
        """A clean chunk (B, H, A) from noise, deterministically (DDIM, Song et al. 2021, and Euler's flow in one).

        `guide(x, level, clean) -> clean` may change what each step aims at; gradients flow through all of it.
        """
        n_steps = self.n_steps if n_steps is None else n_steps
        levels = [1 - k / n_steps for k in range(n_steps + 1)]
        x = noise
        for level, below in pairwise(levels):
            clean = self.denoise(x, level, obs)
            clean = clean if guide is None else guide(x, level, clean)
            direction = (x - self.signal(level) * clean) / self.spread(level)
            x = self.signal(below) * clean + self.spread(below) * direction
        return x

    def plan(self, obs, noise, promise, memory, fresh):
        guide = None if promise is None else self._keep(obs, *promise)
        return Plan(self.to_actions(obs, self.sample(obs, noise, guide=guide)))

    def _keep(self, obs: Arrays, action: torch.Tensor, weight: torch.Tensor):
        """A guide towards actions that will happen anyway, as far as their weight says."""
        wanted, weight = self.to_targets(obs, action), weight[..., None]
        return lambda x, level, clean: clean + weight * (wanted - clean)


def device() -> torch.device:
    """Where trainings and inference run: `$ILBOOK_DEVICE`, such as "cuda"; the processor by default."""
    wanted = os.environ.get("ILBOOK_DEVICE") or "cpu"
    try:
        torch.empty(0, device=wanted)
        return torch.device(wanted)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"ILBOOK_DEVICE={wanted} cannot be used here ({why}); unset it") from error
