"""Receding horizon: execute the first actions of each chunk, then look again, each copy at its own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ilbook.control.base import Controller, Decision
from ilbook.errors import UserError
from ilbook.policies.base import Policy, device

# Products of few rows take another path through the library and differ in their last bits (up to 6e-7), which contact
# then amplifies: those of 236 in 240 small networks as they are, of 3 when called with whole multiples of 8 rows, of
# none with 16 (torch 2.13, MKL 2024.2, AMD EPYC).
ROWS = 16


@dataclass(frozen=True)
class Question:
    """What a policy is asked: the arguments of `Policy.act`, for which copies (n,), and in which of their episodes."""

    copies: np.ndarray
    episodes: np.ndarray
    arguments: dict


class RecedingHorizon(Controller):
    """Executes `n_exec` actions of each chunk, then asks the policy again (Chi et al. 2023).

    With a `delay`, which `n_exec` cannot undercut, the old chunk, or else the command, goes on until its answer;
    with `promise` the policy is told what is executed in the meantime (Black et al. 2025, real-time chunking).
    """

    def __init__(self, policy: Policy, n_exec: int | None = None, seed: int = 0, delay: int = 0, promise: bool = False):
        super().__init__(seed)
        horizon, stride = policy.windows.horizon, policy.stride
        n_exec = (stride or max(1, horizon - delay)) if n_exec is None else n_exec
        if not 1 <= n_exec <= horizon:
            raise UserError(f"n_exec is {n_exec}; this policy predicts {horizon} actions, so 1 to {horizon} fit")
        self.n_exec = max(n_exec, delay)  # control steps between two questions
        if delay < 0 or self.n_exec + delay > horizon:
            late = f"of {horizon} predicted actions none would be left when the next answer arrives"
            raise UserError(f"delay is {delay} and n_exec {self.n_exec}; {late}; choose smaller numbers")
        if stride not in (None, self.n_exec):
            dictated = f"{type(policy).__name__} dictates that {stride} actions are executed, not {self.n_exec}"
            raise UserError(f"{dictated}; leave n_exec out, and the delay at most as long")
        self.policy, self.delay, self.promise = policy.to(device()), delay, promise
        self.inputs = tuple(name for name in policy.inputs if name != "action")
        self.columns = {"horizon": horizon, "n_exec": self.n_exec} | ({"delay": delay} if delay else {})
        self.columns |= policy.columns

    def _begin(self, copies, everything):
        windows, size, place = self.policy.windows, self.policy.action_size, device()
        if everything:
            n = len(copies)
            self._chunk = np.zeros((n, windows.horizon, size))
            self._past = np.zeros((n, windows.n_past, size), dtype=np.float32)  # executed actions
            self._at, self._due, self._clock, self._episode = np.zeros((4, n), dtype=int)
            self._fresh, self._waits = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
            self._seen: dict[str, np.ndarray] = {}
            shapes = self.policy.memory_shapes.items()
            self._memory = {name: torch.zeros(n, *shape, device=place) for name, shape in shapes}
            self._asked, self._window = np.zeros(n, dtype=bool), None
        for kept in (self._due, self._clock, self._waits, self._past):
            kept[copies] = 0
        self._at[copies] = windows.horizon  # of the chunk, which action is next; none is left
        self._fresh[copies] = True
        self._episode[copies] += 1

    def asks(self, alive):
        """Those whose next question comes while what they see now is still in its window."""
        self._asked, self._window = np.zeros(len(alive), dtype=bool), None
        return alive & (self._due - self._clock < self.policy.windows.n_obs)

    def request(self, seen, copies):
        self._known(copies)
        for name, array in seen.items():
            self._look(name, array if array.dtype == np.uint8 else array.astype(np.float32), copies)
        copies = copies[(self._due <= self._clock)[copies] & ~self._waits[copies]]
        if not len(copies):
            return None
        self._asked[copies] = self._waits[copies] = True
        self._due[copies] = self._clock[copies] + self.n_exec
        self._window = {name: self._seen[name][copies] for name in self.inputs}
        return Question(copies, self._episode[copies].copy(), self._arguments(copies))

    def _look(self, name: str, array: np.ndarray, copies: np.ndarray) -> None:
        """Put what is seen into the windows; the first look of an episode fills all of its window."""
        windowed = () if name == "goal" else (self.policy.windows.n_obs,)
        if name not in self._seen:
            self._seen[name] = np.zeros((len(self._fresh), *windowed, *array.shape[1:]), array.dtype)
        window = self._seen[name]
        if windowed:
            first = self._clock[copies] == 0
            window[copies] = np.concatenate([window[copies, 1:], array[:, None]], axis=1)
            window[copies[first]] = array[first, None]
        else:
            window[copies] = array

    def _arguments(self, copies: np.ndarray) -> dict:
        """The arguments of `act` for these copies; the last one stands in for the rows that lack to a multiple."""
        policy, n, place = self.policy, len(copies), device()
        rows = np.concatenate([copies, np.repeat(copies[-1:], -n % ROWS)])
        arrays = {name: self._seen[name][rows] for name in self.inputs}
        if "action" in policy.inputs:
            n_past = policy.windows.n_past
            valid = np.arange(n_past, 0, -1) <= self._clock[rows, None]
            arrays |= {"action": self._past[rows], "action_valid": valid}
        arguments = {"obs": {name: torch.from_numpy(array).to(place) for name, array in arrays.items()}}
        arguments["fresh"] = torch.from_numpy(self._fresh[rows]).to(place)
        if policy.noise_shape is not None:
            drawn = np.stack([self._generators[i].standard_normal(policy.noise_shape, np.float32) for i in copies])
            drawn = np.concatenate([drawn, np.repeat(drawn[-1:], len(rows) - n, axis=0)])
            arguments["noise"] = torch.from_numpy(drawn).to(place)
        if self._memory:
            arguments["memory"] = {name: array[rows] for name, array in self._memory.items()}
        if self.promise:
            arguments["promise"] = tuple(torch.from_numpy(array).to(place) for array in self._promised(rows))
        return arguments

    def _promised(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is executed until the answer is in, as the first actions of its chunk, and weights (0 where free)."""
        horizon = self.policy.windows.horizon
        steps = np.arange(horizon)
        ahead = np.minimum(self._at[rows, None] + steps, horizon - 1)
        sure = np.minimum(self.delay, horizon - self._at)[rows, None]
        chunk = np.take_along_axis(self._chunk[rows], ahead[..., None], axis=1)
        return chunk.astype(np.float32), (steps < sure).astype(np.float32)

    def answer(self, question):
        with torch.no_grad():  # not inference_mode: a guide may switch gradients on again
            return self.policy.act(**question.arguments)

    def deliver(self, question, answer, late=0):
        same = self._episode[question.copies] == question.episodes  # else another one has begun meanwhile
        copies, rows = question.copies[same], np.flatnonzero(same)
        self._chunk = self._chunk.copy()  # earlier decisions show it
        self._chunk[copies] = answer.chunk.cpu().numpy()[rows]
        self._at[copies] = late
        self._waits[copies] = self._fresh[copies] = False
        for name, kept in self._memory.items():
            kept[copies] = answer.memory[name][rows]

    def action(self, alive, command):
        windows, size = self.policy.windows, self.policy.action_size
        if command.shape[1] != size:
            name, wanted = type(self.policy).__name__, command.shape[1]
            raise UserError(f"{name} gives {size} targets and this task takes {wanted}; train it on data of this task")
        has = alive & (self._at < windows.horizon)
        at = np.minimum(self._at, windows.horizon - 1)
        action = np.where(has[:, None], self._chunk[np.arange(len(at)), at], command)
        self._at += has
        self._clock += alive
        if windows.n_past:
            moved = np.concatenate([self._past[:, 1:], action[:, None].astype(np.float32)], axis=1)
            self._past = np.where(alive[:, None, None], moved, self._past)
        return Decision(action, action, self._asked, self._chunk, self._window)
