"""What the policies do that more than one notebook uses."""

from collections import defaultdict
from functools import partial
from math import prod

import numpy as np
import torch

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.policies.base import Batch, ChunkSampler, Policy, device
from ilbook.policies.bc import MLPPolicy
from tests.contract import found
from tests.golden import registry
from tests.golden.registry import trace


@trace("policies.bc", tolerance=1e-6)
def bc():
    torch.manual_seed(1)
    policy = MLPPolicy(3, 2, Windows(n_obs=2, horizon=3), width=8, depth=2, relative_to=(0, 2))
    obs = {"obs": torch.linspace(-1, 1, 24).reshape(4, 2, 3)}
    action = torch.linspace(1, -1, 24).reshape(4, 3, 2)
    valid = torch.arange(12).reshape(4, 3) % 5 != 4
    loss = policy.loss(Batch(obs, action, valid, action[:, :0], valid[:, :0]))
    loss.backward()
    return {
        "chunk": policy.act(obs).chunk,  # (4, 3, 2)
        "features": policy.embed(obs),
        "loss": loss,
        "gradients": [float(p.grad.square().sum()) for p in policy.parameters()],
        "sizes": [p.numel() for p in MLPPolicy(3, 2, Windows()).parameters()],  # of the default width and depth
    }


class Known(ChunkSampler):
    """Sees the clean chunk half way between the noise and a plan that the observations give; no network."""

    def denoise(self, x, level, obs):
        plan = obs["obs"].sum(dim=(1, 2))[:, None, None] * torch.arange(1, 4)[:, None] / 10
        return 0.5 * self.signal(level) * x + (1 - 0.5 * self.spread(level)) * plan


class Counting(Known):
    """Remembers how often it was asked."""

    memory_shapes = {"count": (1,)}  # noqa: RUF012

    def plan(self, obs, noise, promise, memory, fresh):
        count = torch.where(fresh[:, None], 0.0, memory["count"]) + 1
        planned = super().plan(obs, noise, promise, memory, fresh)
        return type(planned)(planned.chunk + count[..., None], {"count": count})


@trace("policies.base", tolerance=1e-6)
def base():
    """The sampler with its schedule, and what `act` does with noise, promises, memory and relative actions."""
    device()
    steps = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
    policy = Counting({"obs": (2,)}, 1, Windows(n_obs=2, horizon=3), relative_to=(1,))
    policy.fit_normalisers(Episodes({"obs": steps, "action": 3 * steps[:, :1]}, np.array([3, 8])))
    policy.fit_normalisers(Episodes({"obs": 9 * steps, "action": steps[:, :1]}, np.array([8])))  # changes nothing
    obs, noise = {"obs": torch.tensor(steps).reshape(4, 2, 2)}, torch.linspace(-2, 2, 12).reshape(4, 3, 1)
    promise = torch.ones(4, 3, 1), torch.tensor([1.0, 0.5, 0.0]).expand(4, 3)
    first = policy.act(obs, noise)
    second = policy.act(obs, noise, promise, first.memory, torch.tensor([True, False, False, True]))
    return {
        "first": first.chunk,
        "second": second.chunk,
        "third": policy.act(obs, noise, memory=second.memory).chunk,
        "targets": policy.to_targets(obs, first.chunk),
        "features": policy.embed(obs),
        "two steps": policy.sample(obs, noise, 2),
        "guided": policy.sample(obs, noise, guide=lambda x, level, clean: clean + level * x),
        "columns": list(policy.columns.values()),
    }


# -- what has no trace of its own above ------------------------------------------------------------------------------
def spread(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, prod(shape)).reshape(shape)


def does(kinds: list[type[Policy]]) -> dict:
    """The first chunk and the next, the features, the loss and how it pulls, for each policy of a module."""
    shown = {}
    for kind in kinds:
        torch.manual_seed(1)
        policy = kind(3, 2, Windows(n_obs=2, horizon=4, n_past=2))
        obs = {name: spread(5, *shape) for name, shape in policy._looks().items()}
        noise = None if policy.noise_shape is None else 2 * spread(5, *policy.noise_shape)
        action, valid = -spread(5, 4, 2), torch.arange(20).reshape(5, 4) % 7 != 6
        loss = policy.loss(Batch(obs, action, valid, action[:, :2], valid[:, :2]), torch.Generator().manual_seed(0))
        loss.backward()
        first = policy.act(obs, noise)
        pulls = [0.0 if p.grad is None else float(p.grad.square().sum()) for p in policy.parameters()]
        values = {"first": first.chunk, "next": policy.act(obs, noise, memory=first.memory).chunk, "loss": loss}
        values |= {"features": policy.embed(obs), "gradients": pulls, "columns": list(policy.columns.values())}
        shown |= {f"{kind.__name__} {name}": value for name, value in values.items()}
    return shown


modules = defaultdict(list)
for policy in found.policies():
    modules[policy.__module__.removeprefix("ilbook.")].append(policy)
for part in modules.keys() - registry._traces.keys():
    trace(part, tolerance=1e-6)(partial(does, modules[part]))
