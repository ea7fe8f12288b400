"""The one training loop: minibatches from memory, AdamW, warm-up and cosine decay, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.policies.base import Policy


@dataclass(frozen=True)
class Training:
    """Settings of one training."""

    steps: int = 3000
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 100  # steps
    average: bool = True  # evaluate the exponential moving average of the weights (Chi et al. 2023)


def rate(step: int, settings: Training) -> float:
    """Learning rate at a step: linear warm-up, then half a cosine down to zero."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    policy: Policy,
    episodes: Episodes,
    settings: Training,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, list[float]]:
    """Train `policy` in place on `episodes` (arrays obs and action); returns the history {step, loss}.

    The normalisers are fitted first. `progress(step, loss)` is called about a hundred times.
    """
    if settings.steps < 1 or settings.batch < 1:
        given = f"{settings.steps} and {settings.batch}"
        raise UserError(f"training needs at least one step and one window a batch, not {given}")
    for name, size in (("obs", policy.obs_size), ("action", policy.action_size)):
        if episodes[name].shape[1:] != (size,):
            raise UserError(f"the policy takes {name} of size {size}; the episodes have {episodes[name].shape[1:]}")
    generator = torch.Generator().manual_seed(seed)
    policy.fit_normalisers(episodes)
    past, future, valid = (torch.as_tensor(index) for index in policy.windows.indices(episodes))
    obs = torch.as_tensor(episodes["obs"], dtype=torch.float32)
    action = torch.as_tensor(episodes["action"], dtype=torch.float32)
    optimiser = torch.optim.AdamW(
        policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.95, 0.999)
    )
    averaged = [p.detach().clone() for p in policy.parameters()]
    history: dict[str, list[float]] = {"step": [], "loss": []}
    every, running = max(1, settings.steps // 100), []
    policy.train()
    for step in range(settings.steps):
        rows = torch.randint(len(past), (settings.batch,), generator=generator)
        loss = policy.loss(obs[past[rows]], action[future[rows]], valid[rows], generator)
        for group in optimiser.param_groups:
            group["lr"] = rate(step, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        # Early weights are worth little: the average starts short and grows (the formula of Chi et al. 2023).
        torch._foreach_lerp_(averaged, list(policy.parameters()), (1 + step) ** -0.75)
        running.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            history["step"].append(step + 1)
            history["loss"].append(float(torch.stack(running).mean()))
            running = []
            if progress:
                progress(step + 1, history["loss"][-1])
    if settings.average:
        with torch.no_grad():
            for parameter, average in zip(policy.parameters(), averaged, strict=True):
                parameter.copy_(average)
    policy.eval()
    return history
