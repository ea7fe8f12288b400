"""Batch samplers: windows, weights, goals in hindsight, two sources half and half."""

import numpy as np
import pytest
import torch

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.learning.batches import GoalBatches, MixedBatches, WindowBatches
from ilbook.policies.base import Policy
from ilbook.policies.bc import MLPPolicy
from tests.contract.small import Recurrent


def some(first: int = 0) -> Episodes:
    """Two episodes whose numbers tell where they stand: obs = step of all, achieved = (episode, step), action = -obs."""
    now = np.arange(20, dtype=np.float32)[:, None] + first
    achieved = np.column_stack([now >= 8 + first, now])
    arrays = {"obs": now, "action": -now, "achieved": achieved, "image": np.arange(20, dtype=np.uint8)[:, None]}
    return Episodes(arrays, np.array([8, 20]))


class Goal(MLPPolicy):
    """Looks at a goal, and at pictures of one grey value."""

    def __init__(self, goal_size: int = 2):
        Policy.__init__(self, {"obs": (1,), "goal": (goal_size,), "image": (1,)}, 1, Windows(2, 3, 2))


def draw(batches, policy: Policy, size: int = 400, seed: int = 0):
    batches.prepare(policy)
    return batches.draw(size, torch.Generator().manual_seed(seed))


def test_windows_hold_what_stands_around_a_step():
    batch = draw(WindowBatches(some()), Recurrent(1, 1, Windows(2, 3, 2)))
    now = batch.obs["obs"][:, -1]  # (B, 1)
    first, last = torch.where(now < 8, 0.0, 8.0), torch.where(now < 8, 7.0, 19.0)
    assert torch.equal(batch.obs["obs"], torch.maximum(now + torch.tensor([-1, 0]), first)[..., None])
    assert torch.equal(batch.action, -torch.minimum(now + torch.arange(3), last)[..., None])
    assert torch.equal(batch.valid, now + torch.arange(3) <= last)
    before = now + torch.tensor([-2, -1])
    assert torch.equal(batch.past_valid, before >= first)
    assert torch.equal(batch.past, torch.where(batch.past_valid, -before, 0.0)[..., None])
    assert torch.equal(batch.obs["action"], batch.past) and torch.equal(batch.obs["action_valid"], batch.past_valid)
    assert np.isclose(now.mean(), 9.5, atol=1) and len(now.unique()) == 20


def test_a_batch_follows_from_its_generator():
    policy, batches = Recurrent(1, 1, Windows(2, 3, 2)), WindowBatches(some())
    one, same, other = (draw(batches, policy, seed=seed).action for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_weights_of_steps_are_respected():
    weights = np.zeros(20)
    weights[[3, 11]] = 1.0, 3.0
    now = draw(WindowBatches(some(), weights), MLPPolicy(1, 1, Windows())).obs["obs"][:, 0, 0]
    assert set(now.tolist()) == {3, 11} and 0.65 < (now == 11).float().mean() < 0.85


@pytest.mark.parametrize("weights", [np.ones(19), np.zeros(20), -np.ones(20), np.full(20, np.nan)])
def test_weights_must_fit(weights):
    with pytest.raises(UserError, match=r"weights have shape \(\d+,\); give 20 numbers >= 0, not all 0"):
        WindowBatches(some(), weights)


@pytest.mark.parametrize("ahead", [1_000_000, 4])
def test_goals_lie_ahead_in_the_same_episode(ahead):
    batch = draw(GoalBatches(some(), "achieved", ahead), Goal(), 2000)
    now, (episode, then) = batch.obs["obs"][:, -1, 0], batch.obs["goal"].T
    assert torch.equal(episode == 1, now >= 8)
    assert (then >= now).all() and (then - now <= ahead).all()
    assert then[now == 7].eq(7).all()  # the last step has only itself
    later = (then - now)[now == 10]  # all that lies ahead is equally likely
    assert set(later.tolist()) == set(map(float, range(min(ahead, 9) + 1)))
    assert batch.obs["image"].dtype == torch.uint8 and batch.obs["image"].shape == (2000, 2, 1)


def test_goals_have_units_of_their_own():
    policy = Goal()
    draw(GoalBatches(some(), "achieved"), policy)
    assert policy.normalisers["goal"].centre.tolist() == [0.5, 9.5] and policy.action_normaliser.fitted


def test_two_sources_half_and_half():
    mixed, policy = MixedBatches(WindowBatches(some()), WindowBatches(some(first=1000))), MLPPolicy(1, 1, Windows(2, 3))
    for size, half in ((400, 200), (7, 4)):
        batch = draw(mixed, policy, size)
        old = batch.obs["obs"][:, -1, 0] < 1000
        assert old[:half].all() and not old[half:].any() and len(batch.action) == len(batch.past_valid) == size
    assert policy.normalisers["obs"].centre.item() == 9.5  # the first one's ranges count


def test_what_the_data_lack_is_named():
    for batches, policy, words in (
        (WindowBatches(some()), Goal(), "unknown array that Goal looks at 'goal'"),
        (WindowBatches(some()), MLPPolicy(2, 1, Windows()), r"MLPPolicy takes 'obs' of shape \(2,\).* have \(1,\)"),
        (WindowBatches(some()), MLPPolicy(1, 2, Windows()), r"takes 'action' of shape \(2,\); the episodes have \(1,\)"),
        (GoalBatches(some(), "achieved"), Goal(1), r"Goal takes 'goal' of shape \(1,\); the episodes have \(2,\)"),
    ):
        with pytest.raises(UserError, match=words):
            batches.prepare(policy)
    with pytest.raises(UserError, match="unknown array 'reached'; nearest valid name: 'achieved'"):
        GoalBatches(some(), "reached")
