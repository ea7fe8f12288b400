"""What the training loop does with a policy of its own, and what batches hold for one that only asks for windows."""

import numpy as np
import torch
from torch import nn

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Rows
from ilbook.learning.batches import GoalBatches, MixedBatches, WindowBatches
from ilbook.learning.fit import Training, fit, rate
from ilbook.policies.base import Batch
from tests.golden.registry import trace


class Line(nn.Module):
    """Two weights and a buffer: nothing of the package but the loop shows in what comes out."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -0.25]]))
        self.bias = nn.Parameter(torch.tensor([0.125]))
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch, generator):
        self.seen += 1
        noise = 0.01 * torch.randn(len(batch.action), 1, generator=generator)
        return (batch.obs["obs"] @ self.weight.T + self.bias + noise - batch.action).square().mean()


class Numbers:
    """Batches of a linear rule."""

    def prepare(self, policy):
        self.prepared = type(policy).__name__

    def draw(self, size, generator):
        obs = torch.rand(size, 2, generator=generator)
        return Batch({"obs": obs}, obs.sum(dim=1, keepdim=True), None, None, None)


@trace("learning.fit", tolerance=1e-4)
def training():
    settings, told = Training(steps=200, batch=8, learning_rate=0.03, warm_up=20, weight_decay=0.1), []
    policy, other = Line(), Line()
    snapshots = list(fit(policy, Numbers(), settings, seed=3, keep=4, progress=lambda *now: told.append(now)))
    *_, last = fit(other, Numbers(), settings, resume=snapshots[1], seed=9)
    plain = Line()
    *_, short = fit(plain, Numbers(), Training(steps=5, batch=4, average=False), seed=3)
    return {
        "steps": [snapshot.step for snapshot in snapshots],
        "weights": [torch.cat([v.flatten() for v in s.weights.values()]).tolist() for s in snapshots],
        "raw": torch.cat([v.flatten() for v in snapshots[-1].raw.values()]),
        "history": list(last.history.values()),
        "told": told[-1],
        "policy": torch.cat([p.flatten() for p in policy.parameters()]),
        "resumed": torch.cat([p.flatten() for p in other.parameters()]),
        "plain": torch.cat([v.flatten() for v in short.weights.values()]),
        "rate": [rate(step, settings) for step in (0, 10, 19, 20, 110, 200)],
        "trains": [policy.training, other.training],
    }


class Asking:
    """A policy that looks at all there is, in windows that are written down here."""

    action_size = 1

    def __init__(self, **inputs):
        self.inputs, self.windows, self.ranges = inputs, self, {}

    def fit_normalisers(self, episodes):
        self.ranges = {name: [float(array.min()), float(array.max())] for name, array in episodes.arrays.items()}

    def indices(self, episodes):
        now = np.arange(episodes.n_steps)[:, None]
        first, last = now // 5 * 5, now // 5 * 5 + 4
        seen, future, past = now + np.arange(-1, 1), now + np.arange(3), now + np.arange(-2, 0)
        return Rows(
            np.maximum(seen, first), np.minimum(future, last), future <= last, np.maximum(past, first), past >= first
        )


@trace("learning.batches", tolerance=1e-6)
def batches():
    now = np.arange(10, dtype=np.float32)[:, None]
    arrays = {"obs": now, "action": -now, "reached": now**2, "image": (10 * now).astype(np.uint8)}
    episodes = Episodes(arrays, np.array([5, 10]))
    weights, found = np.arange(10) % 3, {}
    policy = Asking(obs=(1,), image=(1,), action=(1,))
    goals = Asking(obs=(1,), goal=(1,))
    mixed = MixedBatches(WindowBatches(episodes, weights), WindowBatches(episodes))
    near = GoalBatches(episodes, "reached", ahead=2)
    for name, source, asking in (("mixed", mixed, policy), ("near", near, goals)):
        source.prepare(asking)
        batch = source.draw(7, torch.Generator().manual_seed(4))
        shown = {"action": batch.action, "valid": batch.valid, "past": batch.past, "past_valid": batch.past_valid}
        shown |= {f"obs {key}": value for key, value in batch.obs.items()}
        found |= {f"{name} {key}": value for key, value in shown.items()}
        found |= {f"{name} range of {key}": value for key, value in asking.ranges.items()}
    far = GoalBatches(episodes, "reached")
    far.prepare(goals)
    found["far goals"] = far.draw(20, torch.Generator().manual_seed(4)).obs["goal"].flatten()
    return found
