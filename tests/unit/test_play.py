"""The one loop: what a step tells, how copies begin anew, what follows, and what a controller must return."""

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.experts.avoid import AvoidExpert
from ilbook.rollout.play import play
from ilbook.tasks.avoid import Avoid
from tests.contract.small import Onward

TASK = Avoid(max_steps=8)  # too short to reach the first obstacle


def steps(sim=None, controller=None, seeds=(0, 1, 2), **more):
    return play(sim or TASK.batch(len(seeds)), controller or Onward(), list(seeds), **more)


def test_a_step_tells_what_was_seen_done_and_happened():
    sim = TASK.batch(3)
    before = TASK.starts([0, 1, 2])
    for count, step in enumerate(steps(sim), start=1):
        assert step.sim is sim and step.alive.all() and step.seeds == [0, 1, 2]
        assert np.array_equal(step.state, before)
        np.testing.assert_allclose(step.decision.action, step.state[:, 2:] + [0, 0.02])
        before = sim.state
        assert (sim.length == count).all() and step.picture is None
        assert np.array_equal(step.finished, sim.done) and np.array_equal(sim.truncated, step.finished)
    assert count == 8 and step.finished.all()


def test_who_is_done_is_alive_no_more():
    alive = [step.alive.tolist() for step in steps(controller=Onward(broken=(1,)))]
    assert alive[:3] == [[True] * 3] * 3 and alive[3:] == [[True, False, True]] * 5


def test_it_may_be_left_in_between():
    sim = TASK.batch(3)
    for count, _ in enumerate(steps(sim)):
        if count == 4:
            break
    assert sim.length.tolist() == [5, 5, 5]


def test_copies_begin_anew_until_the_stream_is_dry():
    told, ended = [], []
    stream = iter([7, 8, 9, 10])
    for step in steps(seeds=[0, 1, 2], controller=Onward(0.01, broken=(1,)), refill=stream):
        told.append(list(step.seeds))
        ended += [step.seeds[i] for i in np.flatnonzero(step.finished)]
        new = step.sim.length == 1
        for i in np.flatnonzero(new):
            assert np.array_equal(step.state[i], TASK.starts([step.seeds[i]])[0])
    assert sorted(ended) == [0, 1, 2, 7, 8, 9, 10] and ended[:2] == [1, 7]  # copy 1 always breaks off
    assert told[2] == [0, 1, 2] and told[3] == [0, 7, 2] and next(stream, None) is None


def test_a_stream_gives_no_start_that_nobody_runs():
    stream = iter(range(100, 200))
    for count, _ in enumerate(steps(seeds=[0, 1], refill=stream)):
        if count == 8:
            break
    assert next(stream) == 102


def test_a_start_that_is_solved_at_once_is_passed_over():
    class Solved(Avoid):
        def start(self, rng):
            state = super().start(rng)
            return state + [0, 0.7, 0, 0.7] if rng.random() < 0.5 else state

    task = Solved(max_steps=5)
    sim = task.batch(1)
    sim.reset(task.starts([0]))
    stream = [seed for seed in range(30) if seed != 0]
    solved = []
    for seed in stream:
        sim.reset(task.starts([seed]))
        solved.append(sim.done[0])
    assert 5 < sum(solved) < 25
    first = next(seed for seed, done in zip(stream, solved, strict=True) if not done)
    ended = [step.seeds[0] for step in steps(task.batch(1), seeds=[first], refill=stream) if step.finished.any()]
    assert ended[1:] == [seed for seed, done in zip(stream, solved, strict=True) if not done]


def test_the_last_step_can_be_judged():
    """What follows, in a copy that has ended, is decided on its last observation; then it begins anew."""
    for step in steps(seeds=[0, 1], refill=iter([5])):
        assert step.next is None
        following = step.following()
        assert step.following() is following  # asked for twice, decided once
        wanted = step.sim.state[:, 2:] + [0, 0.02]
        np.testing.assert_allclose(following.action[step.alive], wanted[step.alive])
    assert step.seeds == [5, 1]


def test_pictures_are_of_those_who_act():
    shown = [step.picture for step in steps(controller=Onward(broken=(1,)), camera=32)]
    assert [len(picture) for picture in shown] == [3, 3, 3] + [2] * 5
    assert shown[0].shape == (3, 32, 32, 3) and shown[0].dtype == np.uint8
    assert np.array_equal(shown[0], TASK.render(TASK.starts([0, 1, 2]), 32))


def test_controllers_take_over_where_they_are_put():
    states = TASK.starts([0, 1]) + [-0.075, 0.24, -0.075, 0.24]  # past the first row
    expert = AvoidExpert()
    first = next(play(TASK.batch(2), expert, [0, 1], states=states))
    assert np.array_equal(first.state, states) and expert._row.tolist() == [1, 1]


def test_chances_may_differ_where_starts_do_not():
    from ilbook.experts.base import graded

    moves = {}
    for name, chances in (("same", None), ("apart", [(4, 0), (4, 1)])):
        expert = AvoidExpert(graded("worse", mode=3))
        *_, last = play(TASK.batch(2), expert, [4, 4], chances=chances)
        moves[name] = last.decision.action
    assert np.array_equal(*moves["same"]) and not np.array_equal(*moves["apart"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda action: action[:, :1], r"Wrong decided actions of shape \(2, 1\) for 2 copies of avoid; .*\(2, 2\)"),
        (lambda action: action[0], r"actions of shape \(2,\)"),
        (lambda action: action.astype(str), "must return a Decision with numbers"),
        (None, "Wrong decided a ndarray for 2 copies of avoid; it must return a Decision"),
    ],
)
def test_a_wrong_answer_is_named(answer, words):
    class Wrong(Onward):
        def action(self, alive, command):
            decision = super().action(alive, command)
            if answer is None:
                return decision.action
            return type(decision)(answer(decision.action), decision.label, alive)

    with pytest.raises(UserError, match=words):
        list(steps(seeds=[0, 1], controller=Wrong()))


def test_every_copy_needs_a_seed():
    with pytest.raises(UserError, match="2 seeds for 3 copies of avoid; give one for each copy"):
        next(steps(TASK.batch(3), seeds=[0, 1]))
