"""Three small policies that use all that a policy may (memory, past actions, noise, promises, strides, guides), and a
controller by hand.
"""

import numpy as np
import torch
from torch import nn

from ilbook.control.base import Controller, Decision
from ilbook.nets.mlp import MLP
from ilbook.policies.base import ChunkSampler, Plan, Policy


def masked(error: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The mean square of errors (B, H, A) where they are valid (B, H)."""
    return (error.square().mean(dim=-1) * valid).sum() / valid.sum()


class Recurrent(Policy):
    """A GRU that goes on from look to look, and sees the actions that were executed before."""

    def __init__(self, obs_size, action_size, windows, relative_to=None, width=32):
        super().__init__({"obs": (obs_size,), "action": (action_size,)}, action_size, windows, relative_to)
        self.memory_shapes = {"hidden": (width,)}
        self.cell = nn.GRUCell(obs_size, width)
        n_in = width + windows.n_past * (action_size + 1)
        self.head = MLP(n_in, windows.horizon * action_size, 64, 2)

    def window(self, obs):
        """The hidden state (B, E) after a whole window, from nothing."""
        hidden = torch.zeros(len(obs["obs"]), self.cell.hidden_size)
        for one in self.normalisers["obs"](obs["obs"]).unbind(dim=1):
            hidden = self.cell(one, hidden)
        return hidden

    def predict(self, hidden, action, action_valid):
        past = torch.cat([action, action_valid[..., None].float()], dim=-1).flatten(1)
        return self.head(torch.cat([hidden, past], dim=1)).unflatten(1, (self.windows.horizon, self.action_size))

    def loss(self, batch, generator=None):
        output = self.predict(self.window(batch.obs), batch.past, batch.past_valid)
        return masked(output - self.to_targets(batch.obs, batch.action), batch.valid)

    def plan(self, obs, noise, promise, memory, fresh):
        last = self.normalisers["obs"](obs["obs"][:, -1])
        hidden = torch.where(fresh[:, None], self.window(obs), self.cell(last, memory["hidden"]))
        output = self.predict(hidden, obs["action"], obs["action_valid"])
        return Plan(self.to_actions(obs, output), {"hidden": hidden})


class Streaming(ChunkSampler):
    """Keeps a chunk whose later actions are noisier; each look cleans it by one step and moves it on by `stride`."""

    def __init__(self, obs_size, action_size, windows, relative_to=None):
        super().__init__({"obs": (obs_size,)}, action_size, windows, relative_to)
        self.stride = max(1, windows.horizon // 4)
        self.memory_shapes = {"buffer": (windows.horizon, action_size)}  # SI units: its origin moves between looks
        self.groups = -(-windows.horizon // self.stride)
        group = torch.arange(windows.horizon) // self.stride
        self.register_buffer("goal", group[:, None] / self.groups, persistent=False)  # levels (H, 1) after a look
        size = windows.horizon * action_size
        self.net = MLP(windows.n_obs * obs_size + size + windows.horizon, size, 64, 2)

    def denoise(self, x, level, obs):
        level = torch.as_tensor(level).expand(*x.shape[:-1], 1)[..., 0]
        output = self.net(torch.cat([self.embed(obs), x.flatten(1), level], dim=1))
        return output.unflatten(1, x.shape[1:])

    def lower(self, x, level, below, obs):
        """x at levels `below` (H, 1), where it was at `level`; the rest of a noise that is gone is nothing."""
        clean = self.denoise(x, level, obs)
        direction = (x - self.signal(level) * clean) / self.spread(level).clamp(min=1e-6)
        return self.signal(below) * clean + self.spread(below) * direction

    def loss(self, batch, generator=None):
        shift = torch.rand(len(batch.action), 1, 1, generator=generator)
        level = (self.goal + shift).clamp(max=1.0)
        clean = self.to_targets(batch.obs, batch.action)
        noise = torch.randn(clean.shape, generator=generator)
        clean = torch.where(batch.valid[..., None], clean, 0.0)  # what is padded must not be seen either
        x = self.signal(level) * clean + self.spread(level) * noise
        return masked(self.denoise(x, level, batch.obs) - clean, batch.valid)

    def plan(self, obs, noise, promise, memory, fresh):
        step = 1 / self.groups
        x, level = noise, torch.ones_like(self.goal)
        for _ in range(self.groups - 1):
            below = torch.maximum(level - step, self.goal + step)
            x, level = self.lower(x, level, below, obs), below
        moved = torch.cat([self.to_targets(obs, memory["buffer"])[:, self.stride :], noise[:, : self.stride]], dim=1)
        x = torch.where(fresh[:, None, None], x, moved)
        x = self.lower(x, self.goal + step, self.goal, obs)
        chunk = self.to_actions(obs, x)
        return Plan(chunk, {"buffer": chunk})


class Gaussian(ChunkSampler):
    """Chunks are normally distributed around a mean that is learnt: what denoising should do is known in closed form."""

    VARIANCE = 0.25

    def __init__(self, obs_size, action_size, windows, relative_to=None):
        super().__init__({"obs": (obs_size,)}, action_size, windows, relative_to)
        self.net = MLP(windows.n_obs * obs_size, windows.horizon * action_size, 64, 2)

    def mean(self, obs):
        return self.net(self.embed(obs)).unflatten(1, (self.windows.horizon, self.action_size))

    def denoise(self, x, level, obs):
        signal, spread, mean = self.signal(level), self.spread(level), self.mean(obs)
        gain = signal * self.VARIANCE / (signal**2 * self.VARIANCE + spread**2)
        return mean + gain * (x - signal * mean)

    def loss(self, batch, generator=None):
        noise = torch.randn(batch.action.shape, generator=generator)
        return masked(self.denoise(noise, 1.0, batch.obs) - self.to_targets(batch.obs, batch.action), batch.valid)


SMALL = (Recurrent, Streaming, Gaussian)


class Onward(Controller):
    """Goes up from its command, and `aside` to the right; the copies in `broken` send nonsense at the third step."""

    def __init__(self, aside: float = 0.0, broken: tuple[int, ...] = ()):
        super().__init__()
        self.move, self.broken, self.resets = np.array([aside, 0.02]), list(broken), 0

    def _begin(self, copies, everything):
        self.resets += 1
        if everything:
            self._step, self._obs = np.zeros(len(copies), dtype=int), np.zeros((len(copies), 2))
        self._step[copies] = 0

    def request(self, seen, copies):
        self._obs[copies] = seen["obs"][:, :2]

    def deliver(self, question, answer, late=0): ...

    def action(self, alive, command):
        self._step += alive
        action = self._obs + self.move
        action[[i for i in self.broken if self._step[i] == 3]] = np.nan
        return Decision(action, action, alive)
