"""Controllers: they decide how much of a predicted chunk is executed, and own every queue."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from ilbook.errors import UserError
from ilbook.policies.base import Policy


class RecedingHorizon:
    """Executes the first `n_exec` actions of each chunk, then asks the policy again (Chi et al. 2023).

    Serves N copies in step: `act` maps their observations (N, O) to actions (N, A), with one forward pass for all.
    """

    def __init__(self, policy: Policy, n_exec: int | None = None, seed: int = 0):
        horizon = policy.windows.horizon
        self.n_exec = horizon if n_exec is None else n_exec
        if not 1 <= self.n_exec <= horizon:
            raise UserError(
                f"n_exec is {n_exec}; this policy predicts {horizon} actions, so 1 to {horizon} can be executed"
            )
        self.policy, self.seed = policy, seed
        self.reset()

    def reset(self) -> None:
        """Forget the past: to be called before every batch of episodes."""
        self._generator = torch.Generator().manual_seed(self.seed)
        self._seen: deque[np.ndarray] = deque(maxlen=self.policy.windows.n_obs)
        self._chunk = np.empty((0, 0, 0))  # (N, H, A)
        self._used = self.n_exec

    def act(self, obs: np.ndarray) -> np.ndarray:
        self._seen.append(np.array(obs, dtype=np.float32))
        if self._used == self.n_exec:
            window = [self._seen[0]] * (self._seen.maxlen - len(self._seen)) + list(self._seen)  # repeat the first
            window = torch.from_numpy(np.stack(window, axis=1))  # (N, n_obs, O)
            self._chunk, self._used = self.policy.act(window, self._generator).numpy(), 0
        action = self._chunk[:, self._used]
        self._used += 1
        return action.astype(np.float64)
