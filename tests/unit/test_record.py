"""Episodes from rollouts: what was seen, meant and executed."""

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.experts.avoid import AvoidExpert
from ilbook.experts.base import graded
from ilbook.rollout.evaluate import evaluate
from ilbook.rollout.record import record
from ilbook.tasks.avoid import Avoid
from tests.contract.small import Onward


def test_labels_are_what_was_meant():
    task, expert = Avoid(), AvoidExpert(graded("worse"))
    episodes = record(task, expert, range(5))
    rollout = evaluate(task, expert, range(5), "worse")
    assert episodes.lengths.tolist() == rollout.table["length"].tolist()
    assert episodes.meta["seed"] == [0, 1, 2, 3, 4]
    assert episodes.meta["success"] == rollout.table["success"].astype(bool).tolist()
    assert episodes.meta["score"] == rollout.table["score"].tolist()
    for episode, states in zip(episodes, rollout.states, strict=True):
        assert np.array_equal(episode["state"], states[:-1].astype(np.float32))
        np.testing.assert_allclose(episode["obs"], task.observe(episode["state"]))
        assert not np.array_equal(episode["action"], episode["executed"])
    assert {array.dtype for array in episodes.arrays.values()} == {np.dtype(np.float32)}
    straight = record(task, Onward(), [0])
    assert np.array_equal(straight["action"], straight["executed"])


def test_pictures_stand_beside_their_states():
    episodes = record(Avoid(max_steps=6), Onward(broken=(1,)), [3, 4, 5], camera=24)
    assert episodes.lengths.tolist() == [6, 2, 6] and episodes["image"].shape == (14, 24, 24, 3)
    drawn = Avoid().render(episodes["state"].astype(float), 24)
    assert np.abs(drawn.astype(int) - episodes["image"]).max() <= 1  # states were rounded


def test_what_is_not_finite_is_left_out():
    episodes = record(Avoid(max_steps=6), Onward(broken=(0,)), [3, 4])
    assert episodes.lengths.tolist() == [2, 6] and all(np.isfinite(a).all() for a in episodes.arrays.values())


def test_only_those_that_succeed():
    everything = record(Avoid(), AvoidExpert(graded("worse")), range(20))
    good = record(Avoid(), AvoidExpert(graded("worse")), range(20), only="success")
    assert 0 < len(good) < 20 and all(good.meta["success"])
    assert len(good) == sum(everything.meta["success"])
    with pytest.raises(UserError, match="avoid: none of 2 episodes has success; try more, or record all of them"):
        record(Avoid(), Onward(), [0, 1], only="success")
