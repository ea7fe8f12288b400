"""Receding horizon: which action of which chunk is executed when."""

import numpy as np
import pytest
import torch

from ilbook.control.receding import RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.policies.base import Policy


class Counting(Policy):
    """Chunks whose numbers tell where they come from: (first obs of the window, calls so far + index in the chunk)."""

    def __init__(self, n_obs: int, horizon: int, noise: float = 0.0):
        super().__init__(1, 2, Windows(n_obs, horizon))
        self.noise, self.windows_seen = noise, []

    def loss(self, obs, action, valid, generator=None):
        raise NotImplementedError

    def act(self, obs, generator=None):
        self.windows_seen.append(obs.clone())
        index = 100.0 * len(self.windows_seen) + torch.arange(self.windows.horizon)
        chunk = torch.stack([obs[:, :1, 0].expand(-1, len(index)), index.expand(len(obs), -1)], dim=-1)
        return chunk + self.noise * torch.rand(chunk.shape, generator=generator)


def drive(controller, steps: int, n_copies: int = 2) -> np.ndarray:
    """Actions (T, N, A) for observations that count steps and tell the copies apart."""
    return np.stack([controller.act(t + 0.5 * np.arange(n_copies)[:, None]) for t in range(steps)])


def test_each_chunk_is_executed_up_to_n_exec():
    policy = Counting(n_obs=1, horizon=4)
    actions = drive(RecedingHorizon(policy, n_exec=3), 8)
    assert actions.shape == (8, 2, 2) and actions.dtype == np.float64
    assert actions[:, 0, 1].tolist() == [100, 101, 102, 200, 201, 202, 300, 301]
    assert actions[:, 0, 0].tolist() == [0, 0, 0, 3, 3, 3, 6, 6]
    assert np.array_equal(actions[:, 1, 0], actions[:, 0, 0] + 0.5)


@pytest.mark.parametrize(("horizon", "n_exec", "calls"), [(4, None, 3), (4, 4, 3), (4, 1, 12), (1, None, 12)])
def test_the_policy_is_asked_when_its_actions_are_used_up(horizon, n_exec, calls):
    policy = Counting(1, horizon)
    drive(RecedingHorizon(policy, n_exec), 12)
    assert len(policy.windows_seen) == calls


def test_the_first_observation_fills_the_window():
    policy = Counting(n_obs=3, horizon=2)
    drive(RecedingHorizon(policy, n_exec=1), 4)
    assert [window[0, :, 0].tolist() for window in policy.windows_seen] == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    drive(RecedingHorizon(policy, n_exec=2), 3)
    assert [window[0, :, 0].tolist() for window in policy.windows_seen[4:]] == [[0, 0, 0], [0, 1, 2]]
    assert policy.windows_seen[0].shape == (2, 3, 1) and policy.windows_seen[0].dtype == torch.float32


def test_reset_forgets_the_past():
    policy = Counting(n_obs=2, horizon=4)
    controller = RecedingHorizon(policy)
    drive(controller, 2)
    controller.reset()
    assert controller.act(np.full((3, 1), 9.0)).shape == (3, 2)  # another number of copies
    assert policy.windows_seen[-1][0, :, 0].tolist() == [9, 9]


def test_noise_depends_on_the_seed_alone():
    controllers = [RecedingHorizon(Counting(1, 2, noise=1.0), seed=seed) for seed in (1, 1, 2)]
    first, same, other = (drive(controller, 6) for controller in controllers)
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    controllers[0].policy.windows_seen.clear()
    controllers[0].reset()
    assert np.array_equal(drive(controllers[0], 6), first)


def test_the_observation_is_not_kept_by_reference():
    policy, obs = Counting(n_obs=2, horizon=1), np.zeros((1, 1), dtype=np.float32)
    controller = RecedingHorizon(policy)
    controller.act(obs)
    obs += 5.0
    controller.act(obs)
    assert policy.windows_seen[-1][0, :, 0].tolist() == [0, 5]


@pytest.mark.parametrize("n_exec", [0, 5, -1])
def test_n_exec_must_fit_the_chunk(n_exec):
    with pytest.raises(UserError, match=f"n_exec is {n_exec}; this policy predicts 4 actions, so 1 to 4"):
        RecedingHorizon(Counting(1, 4), n_exec)
