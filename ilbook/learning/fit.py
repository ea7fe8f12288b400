"""The one training loop: batches in, snapshots out; AdamW, warm-up and cosine decay, averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.learning.batches import Batches, WindowBatches
from ilbook.policies.base import Policy, device


@dataclass(frozen=True)
class Training:
    """Settings of one training."""

    steps: int = 3000
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 100  # steps
    average: bool = True  # evaluate the exponential moving average of the weights (Chi et al. 2023)


@dataclass(frozen=True)
class Snapshot:
    """A training as it was after `step` steps: a copy, from which `fit` goes on bit for bit."""

    step: int
    weights: dict[str, torch.Tensor]  # the state dict to evaluate: averaged, if the settings say so
    history: dict[str, list[float]]  # {step, loss} up to here
    raw: dict[str, torch.Tensor]  # the state dict that is trained
    rest: dict  # averaged weights, optimiser, generator, losses since the last entry of the history ("running")


def rate(step: int, settings: Training) -> float:
    """Learning rate at a step: linear warm-up, then half a cosine down to zero."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    policy: Policy,
    batches: Batches | Episodes,
    settings: Training,
    seed: int = 0,
    keep: int = 1,
    resume: Snapshot | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Iterator[Snapshot]:
    """Train `policy` in place; yields `keep` snapshots at equal distances, the last one at the end.

    Episodes are taken as windows around their steps. Normalisers are fitted first, unless they are. `resume` goes on
    from a snapshot of a training with the same settings and data. `progress(step, loss)` is called about a hundred
    times. Afterwards the policy holds the weights to evaluate, in evaluation mode.
    """
    if settings.steps < 1 or settings.batch < 1 or keep < 1:
        given = f"{settings.steps}, {settings.batch} and {keep}"
        raise UserError(f"training needs at least one step, one example a batch and one snapshot, not {given}")
    used.note("learning.fit")
    # What a sampler notes of this policy stays out of the caller's.
    batches = WindowBatches(batches) if isinstance(batches, Episodes) else copy.copy(batches)
    batches.prepare(policy)
    policy.to(device())
    run = _Run(policy, settings, seed)
    if resume is not None:
        run.go_back(resume)
    every = max(1, settings.steps // 100)
    ends = {round(settings.steps * (k + 1) / keep) for k in range(keep)}
    policy.train()
    for step in range(run.step, settings.steps):
        run.advance(batches)
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            loss = run.note()
            if progress:
                progress(step + 1, loss)
        if step + 1 in ends:
            yield run.snapshot()
    if settings.average:
        with torch.no_grad():
            for parameter, average in zip(policy.parameters(), run.averaged, strict=True):
                parameter.copy_(average)
    policy.eval()


class _Run:
    """A training between two steps."""

    def __init__(self, policy: nn.Module, settings: Training, seed: int):
        self.policy, self.settings, self.step = policy, settings, 0
        self.parameters = list(policy.parameters())
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.generator = torch.Generator().manual_seed(seed)
        how = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "betas": (0.95, 0.999)}
        self.optimiser = torch.optim.AdamW(self.parameters, **how)
        self.history: dict[str, list[float]] = {"step": [], "loss": []}
        self.running: list[torch.Tensor] = []

    def advance(self, batches: Batches) -> None:
        """One step."""
        batch = batches.draw(self.settings.batch, self.generator)
        if getattr(batch, "action", None) is None:
            raise UserError(f"{type(batches).__name__} draws batches without actions; give them action (B, H, A)")
        loss = self.policy.loss(batch, self.generator)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.step, self.settings)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        # Early weights are worth little: the average starts short and grows (the formula of Chi et al. 2023).
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.parameters, (1 + self.step) ** -0.75)
        self.running.append(loss.detach())
        self.step += 1

    def note(self) -> float:
        """Put the mean loss since the last time into the history."""
        loss = float(torch.stack(self.running).mean())
        self.history["step"].append(self.step)
        self.history["loss"].append(loss)
        self.running = []
        return loss

    def snapshot(self) -> Snapshot:
        state = self.policy.state_dict(keep_vars=True)  # tied weights have several names
        mean = dict(zip(map(id, self.parameters), self.averaged, strict=True)) if self.settings.average else {}
        raw = {name: value.detach().clone() for name, value in state.items()}
        weights = {name: mean.get(id(value), value).detach().clone() for name, value in state.items()}
        optimiser, generator = self.optimiser.state_dict(), self.generator.get_state()
        rest = {"averaged": self.averaged, "running": self.running, "optimiser": optimiser, "generator": generator}
        return Snapshot(self.step, weights, copy.deepcopy(self.history), raw, copy.deepcopy(rest))

    def go_back(self, old: Snapshot) -> None:
        """Be as the snapshot was."""
        if old.step > self.settings.steps:
            raise UserError(f"the snapshot has {old.step} steps, the training only {self.settings.steps}; raise steps")
        self.policy.load_state_dict(old.raw)
        self.step, self.history, rest = old.step, copy.deepcopy(old.history), copy.deepcopy(old.rest)
        self.averaged, self.running = rest["averaged"], rest["running"]
        self.optimiser.load_state_dict(rest["optimiser"])
        self.generator.set_state(rest["generator"])
