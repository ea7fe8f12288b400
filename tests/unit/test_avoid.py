"""Avoid: its rules, the ways past its obstacles, and its demonstrator."""

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.experts.avoid import AvoidExpert
from ilbook.experts.base import Style
from ilbook.rollout.play import play
from ilbook.rollout.record import demonstrate
from ilbook.tasks.avoid import (
    GOAL,
    MODE_NAMES,
    N_MODES,
    OBSTACLES,
    RADIUS,
    START,
    START_JITTER,
    Avoid,
    clearance,
    gaps,
    mode_of,
)
from ilbook.tasks.simulation import Simulation


@pytest.fixture(scope="module")
def demos():
    return demonstrate(AvoidExpert, 48, seed=5)


def started(n: int) -> Simulation:
    """Copies at the first starts."""
    sim = Avoid().batch(n)
    sim.reset(Avoid().starts(range(n)))
    return sim


def drive(points, steps=200) -> Simulation:
    """Copies that were led through their points (N, P, 2), one after the other."""
    sim = started(len(points))
    target = np.zeros(sim.n_copies, dtype=int)
    for _ in range(steps):
        aim = points[np.arange(sim.n_copies), target]
        near = np.linalg.norm(sim.command - aim, axis=1) < 1e-6
        target = np.minimum(target + near, points.shape[1] - 1)
        sim.step(points[np.arange(sim.n_copies), target])
    return sim


def upright_ways():
    """One rectangular detour per mode: beside each gap, up through it, on to the next."""
    ways = []
    for one in (0.40, 0.60):
        for two in (0.33, 0.50, 0.67):
            for three in (0.27, 0.425, 0.575, 0.73):
                ways.append([(one, -0.2), (one, -0.01), (two, -0.01), (two, 0.17), (three, 0.17), (three, 0.38)])
    return np.array(ways)


def test_every_mode_is_reported_in_the_order_of_its_name():
    sim = drive(upright_ways())
    assert sim.success.all() and not sim.failure.any()
    assert sim.info()["mode"].tolist() == list(range(24))
    assert (MODE_NAMES[0], MODE_NAMES[5], MODE_NAMES[23]) == ("L-L-1", "L-M-2", "R-R-4")
    assert (sim.score == 1).all()


def test_touching_an_obstacle_ends_the_episode_as_a_failure():
    sim = drive(np.array([[[0.5, 0.3]]]), 60)
    assert sim.failure[0] and not sim.success[0] and sim.info()["mode"][0] == -1
    where = sim.state[0, :2]
    assert -0.016 < clearance(where) < 0, "it stops at the obstacle's rim, within one control step"
    assert sim.score[0] == pytest.approx((where[1] - START[1]) / (GOAL - START[1]), abs=0.02)


def test_a_touch_between_two_control_steps_counts():
    """A brush at the rim, with both ends of the control step free, must not slip through."""
    sim = started(1)
    rim = OBSTACLES[0, 2] + RADIUS
    inside = np.array([0.5 - rim + 0.0002, -0.1])
    path = inside + np.array([[0.0, -0.006], [0.0, 0.0], [0.0, 0.006]])
    assert clearance(path[0]) > 0 and clearance(path[2]) > 0 > clearance(path[1])
    sim.task.judge(sim, np.arange(1), path[None])
    assert sim.failure[0]


def test_a_free_pass_close_to_the_rim_is_no_touch():
    sim = started(1)
    rim = OBSTACLES[0, 2] + RADIUS
    up = np.column_stack([np.full(50, 0.5 - rim - 0.0002), np.linspace(-0.2, 0.0, 50)])
    sim.task.judge(sim, np.arange(1), up[None])
    assert not sim.failure[0]


def test_modes_of_copies_do_not_mix_and_reset_forgets_them():
    sim = drive(upright_ways()[[3, 20]])
    assert sim.info()["mode"].tolist() == [3, 20]
    sim.reset(Avoid().starts([1]), copies=np.array([1]))
    assert sim.info()["mode"].tolist() == [3, -1]
    assert not sim.success[1] and sim.score[1] == pytest.approx(0.0, abs=0.02)


def test_gaps_agree_with_a_slow_reading_of_the_path():
    rng = np.random.default_rng(0)
    paths = np.cumsum(rng.normal([0, 0.01], [0.02, 0.01], (50, 90, 2)), axis=1) + START
    for path, found in zip(paths, gaps(paths), strict=True):
        for row, centres in enumerate(((0.5,), (0.425, 0.575), (0.35, 0.5, 0.65))):
            above = [x for x, y in path if y > (-0.10, 0.08, 0.26)[row]]
            assert found[row] == (sum(above[0] > c for c in centres) if above else -1)


def test_starts_differ_by_millimetres_only():
    starts = Avoid().starts(range(100))
    assert len(np.unique(starts, axis=0)) == 100
    assert np.abs(starts[:, :2] - START).max() <= 3 * START_JITTER
    assert (starts[:, :2] == starts[:, 2:]).all()


def test_the_point_trails_its_command():
    sim = started(1)
    for _ in range(10):
        sim.step(sim.command + np.array([0.0, 0.01]))
    behind = sim.command[0, 1] - sim.state[0, 1]
    assert behind == pytest.approx(0.25 * 0.05, rel=0.1), "50 ms at 0.25 m/s"


def test_demonstrations_take_all_ways_evenly_and_touch_nothing(demos):
    assert len(demos) == 48 and demos["state"].dtype == demos["action"].dtype == np.float32
    modes = [mode_of(gaps(episode["state"][None, :, :2]))[0] for episode in demos]
    assert np.bincount(modes, minlength=N_MODES).tolist() == [2] * 24
    assert clearance(demos["state"][:, :2]).min() > 0


def test_demonstrations_have_human_speed_and_are_clean_where_the_execution_was_not(demos):
    assert 60 < demos.lengths.mean() < 110
    now, following = demos["state"][:-1, 2:], demos["state"][1:, 2:]
    inside = np.ones(len(now), dtype=bool)
    inside[demos.episode_ends[:-1] - 1] = False
    slip = np.linalg.norm(following - demos["action"][:-1], axis=1)[inside]
    step = np.linalg.norm(demos["action"] - demos["state"][:, 2:], axis=1)
    assert 0.0005 < slip.mean() < 0.005, "what was executed is not what was recorded"
    assert step.max() <= Avoid.max_speed / Avoid.control_hz + 1e-5
    turn = np.diff(demos["action"], axis=0)[inside]
    assert np.quantile(np.linalg.norm(turn, axis=1), 0.99) < 0.02, "no jumps of the target"


def test_demonstrations_follow_from_their_seed(demos):
    again = demonstrate(AvoidExpert, 48, seed=5)
    assert (again["state"] == demos["state"]).all() and (again["action"] == demos["action"]).all()
    other = demonstrate(AvoidExpert, 48, seed=6)
    assert other["state"].shape != demos["state"].shape or (other["state"] != demos["state"]).any()


def test_the_expert_finds_its_way_without_slips_in_every_mode():
    seeds = [(7, mode) for mode in range(N_MODES)]
    expert, sims = AvoidExpert(), [Avoid().batch(N_MODES) for _ in range(2)]
    expert.turns = np.arange(N_MODES)
    first, again = ([step.decision.label for step in play(sim, expert, seeds)] for sim in sims)
    assert sims[0].info()["mode"].tolist() == list(range(24))
    assert np.array_equal(first, again), "a reset expert repeats itself"


def test_the_ways_of_an_expert_follow_from_its_style_or_its_seeds():
    sim = Avoid().batch(48)
    list(play(sim, AvoidExpert(Style(noise=0.0, mode=17)), range(48)))
    assert set(sim.info()["mode"]) == {17}
    list(play(sim, AvoidExpert(), range(48)))
    assert len(set(sim.info()["mode"]) - {-1}) > 12


def test_the_expert_refuses_what_makes_no_sense():
    with pytest.raises(UserError, match="0 to 23"):
        AvoidExpert(Style(mode=24))
    with pytest.raises(UserError, match="at least 1"):
        demonstrate(AvoidExpert, 0, seed=0)
