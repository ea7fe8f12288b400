"""Insert: its geometry, the physics of contact at 1 mm of play, its options, and its demonstrator."""

import itertools
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.experts.base import STEADY, Style
from ilbook.experts.insert import InsertExpert
from ilbook.rollout.play import play
from ilbook.rollout.record import demonstrate
from ilbook.tasks.insert import FLOOR, FULL, HOLE, LENGTH, PEG, PLAY, STAGES, Insert, to_hand, to_tip
from ilbook.tasks.simulation import Simulation

NOMINAL = Insert()
UPRIGHT = np.array([[0.0, 0.0, 0.0]])  # a hole at its nominal place


def at(tip, hole=UPRIGHT) -> np.ndarray:
    """A state (1, 9) at rest whose tip has this pose in the frame of the hole."""
    hand = to_hand(np.atleast_2d(tip).astype(float), hole)
    return np.concatenate([hand, hole, hand], axis=1)


def tips(sim) -> np.ndarray:
    """Where the tips are (N, 3), in the frames of their holes."""
    return to_tip(sim.state[:, :3], sim.state[:, 3:6])


def started(states, task=NOMINAL) -> Simulation:
    """One copy at each of these states (n, 9)."""
    sim = task.batch(len(states))
    sim.reset(states)
    return sim


def press(states, across, tilt=0.0, steps=60, speed=0.03, task=NOMINAL) -> tuple[Simulation, np.ndarray]:
    """Go down to full depth with an error in place and tilt; the depths (T, N) of the tips."""
    sim, hole, depths = started(states, task), states[:, 3:6], []
    for k in range(steps):
        height = np.maximum(0.005 - speed / task.control_hz * k, -0.033)
        goal = np.stack(np.broadcast_arrays(across, height, tilt), axis=-1) * np.ones((len(states), 3))
        sim.step(to_hand(goal, hole))
        depths.append(-tips(sim)[:, 1])
    return sim, np.stack(depths)


def deepest_penetration(task, states) -> float:
    """Metres, over all states (n, 9)."""
    model = task.load_model()
    data, deepest = mujoco.MjData(model), 0.0
    for state in states:
        data.qpos[:] = state[: model.nq]
        mujoco.mj_fwdPosition(model, data)
        deepest = max(deepest, -data.contact.dist[: data.ncon].min(initial=0.0))
    return deepest


# -- geometry ---------------------------------------------------------------------------------------------------------
def test_to_hand_undoes_to_tip():
    rng = np.random.default_rng(0)
    tip, hole = rng.uniform(-0.5, 0.5, (2, 50, 3))
    np.testing.assert_allclose(to_tip(to_hand(tip, hole), hole), tip, atol=1e-12)
    np.testing.assert_allclose(to_hand(np.zeros(3), np.zeros(3)), [0, LENGTH, 0], atol=1e-12)


def test_the_model_agrees_with_the_code_about_tip_and_mouth():
    model = NOMINAL.load_model()
    data = mujoco.MjData(model)
    for state in NOMINAL.starts(range(5)):
        data.qpos[:] = state[:6]
        mujoco.mj_kinematics(model, data)
        peg, hole = data.body("peg"), data.body("hole")
        tip = peg.xpos + peg.xmat.reshape(3, 3) @ [0, 0, -LENGTH]
        local = hole.xmat.reshape(3, 3).T @ (tip - hole.xpos)
        np.testing.assert_allclose(to_tip(state[:3], state[3:6])[:2], local[[0, 2]], atol=1e-12)


def test_the_play_between_peg_and_hole_is_one_millimetre():
    model = NOMINAL.load_model()
    left, right, peg, floor = (model.geom(name) for name in ("wall_left", "wall_right", "peg", "floor"))
    gap = (right.pos[0] - right.size[0]) - (left.pos[0] + left.size[0])
    assert gap == pytest.approx(HOLE) and 2 * peg.size[0] == pytest.approx(PEG)
    assert gap - 2 * peg.size[0] == pytest.approx(0.001) == pytest.approx(PLAY)
    assert floor.pos[2] + floor.size[2] == pytest.approx(-FLOOR)
    corners = [model.geom(name) for name in ("corner_left", "corner_right")]
    rims = [model.geom(name) for name in ("rim_left", "rim_right")]
    for corner, rim, side in zip(corners, rims, (-1, 1), strict=True):  # flush with the faces that they round
        assert corner.pos[0] + side * corner.size[0] == pytest.approx(side * PEG / 2)
        assert corner.pos[2] - corner.size[0] == pytest.approx(-LENGTH)
        assert rim.pos[0] - side * rim.size[0] == pytest.approx(side * HOLE / 2)
        assert rim.pos[2] + rim.size[0] == pytest.approx(0.0)
        assert corner.size[0] + rim.size[0] < 0.001  # no funnel


@pytest.mark.parametrize(("strength", "play"), [(-1, 2e-3), (0, 1e-3), (1, 0.5e-3), (2, 0.25e-3)])
def test_a_thicker_peg_halves_the_play_and_still_fits(strength, play):
    task = Insert(shift={"size": strength})
    model = task.load_model()
    assert HOLE - 2 * model.geom("peg").size[0] == pytest.approx(play)
    right = model.geom("corner_right")
    assert right.pos[0] + right.size[0] == pytest.approx(model.geom("peg").size[0])
    sim, _ = press(at([0, 0.005, 0]), 0.0, task=task)
    assert sim.success[0]


# -- the physics of contact -------------------------------------------------------------------------------------------
def test_a_peg_in_line_goes_in_and_one_aside_does_not():
    across = np.array([0.0, 0.0004, 0.0010, 0.0015, 0.003, -0.0004, -0.0010, -0.0015, -0.003])
    sim, depths = press(np.concatenate([at([x, 0.005, 0]) for x in across]), across)
    assert sim.success.tolist() == (np.abs(across) < 0.0005).tolist()
    assert (depths[-1, ~sim.success] < 0.001).all()  # pressed with 17 N, and not in
    assert (sim.info()["stage"] == np.where(sim.success, 4, 1)).all()


def test_a_leaning_peg_enters_and_jams():
    sim, depths = press(np.concatenate([at([0, 0.005, 0])] * 2), 0.0, tilt=np.array([0.02, 0.12]))
    assert sim.success.tolist() == [True, False]  # 1 mm of play allows 0.033 rad at full depth
    assert 0.005 < depths[-1, 1] < 0.028


def test_what_sticks_deflects_its_servo_by_millimetres():
    sim = started(at([0.03, 0.002, 0]))
    for _ in range(30):
        sim.step(to_hand(np.array([[0.03, -0.006, 0.0]]), UPRIGHT))
    assert tips(sim)[0, 1] == pytest.approx(0.0, abs=1e-4)
    assert to_tip(sim.command, UPRIGHT)[0, 1] == pytest.approx(-0.006, abs=1e-6)


def test_friction_holds_a_pressed_peg():
    """A solver whose tolerance was spoilt by the heavy hole let it creep by millimetres."""
    sim = started(at([0.03, 0.001, 0]))
    moved = []
    for goal in [[0.03, -0.01, 0]] * 20 + [[0.031, -0.01, 0]] * 60:
        sim.step(to_hand(np.array([goal]), UPRIGHT))
        moved.append(tips(sim)[0, 0])
    assert abs(moved[-1] - moved[19]) < 0.0003  # 0.5 N aside against 0.4 * 5 N


def test_nothing_goes_through_anything():
    """At full pressure on the board, on the rim and jammed in the hole, and when the peg comes down at full speed."""
    across = np.array([0.0, 0.0, 0.001, 0.003, 0.012, 0.03])
    tilt = np.array([0.0, 0.12, 0.0, 0.05, 0.0, -0.1])
    sim, _ = press(np.concatenate([at([x, 0.005, t]) for x, t in zip(across, tilt, strict=True)]), across, tilt)
    assert deepest_penetration(NOMINAL, sim.state) < 0.0001
    sim.reset(np.concatenate([at([x, 0.03, t]) for x, t in zip(across, tilt, strict=True)]))
    deepest = 0.0
    for _ in range(20):
        sim.step(to_hand(np.column_stack([across, np.full(6, -0.033), tilt]), UPRIGHT))
        deepest = max(deepest, *(deepest_penetration(NOMINAL, run[:, 1:7]) for run in sim._trace))
    assert 0 < deepest < 0.0006


def test_the_hole_stays_where_it_is():
    sim = started(NOMINAL.starts(range(16)))
    hole = sim.state[:, 3:6]
    rng = np.random.default_rng(0)
    for _ in range(60):
        sim.step(rng.uniform(Insert.action_low, Insert.action_high, (16, 3)) * [1, 0.3, 1])
    np.testing.assert_allclose(sim.state[:, 3:6], hole, atol=1e-6)


# -- rules and options ------------------------------------------------------------------------------------------------
def test_success_is_full_depth():
    sim = started(np.concatenate([at([0, -FULL + 1e-6, 0]), at([0, -FULL - 1e-6, 0]), at([0, -FULL / 2 - 1e-6, 0])]))
    assert sim.success.tolist() == [False, True, False]
    assert sim.score == pytest.approx([1, 1, 0.5], abs=1e-3) and sim.reward.tolist() == [0, 1, 0]
    assert [STAGES[k] for k in sim.info()["stage"]] == ["half way", "inserted", "half way"]


def test_beside_the_hole_there_is_no_depth():
    sim = started(at([0.03, 0.0, 0.1]))
    for _ in range(20):
        sim.step(Insert.action_low[None] * [-0.3, 1, 0])
    assert sim.score[0] == 0 and STAGES[sim.info()["stage"][0]] == "away"


def test_leaving_the_workspace_fails():
    states = np.concatenate([at([0.05, 0.03, 0])] * 2)
    states[1, 0] = 0.16
    sim = started(states)
    assert sim.failure.tolist() == [False, True]


def test_starts():
    states = NOMINAL.starts(range(400))
    assert np.array_equal(states[:, :3], states[:, 6:])  # at rest where the command is
    tip = to_tip(states[:, :3], states[:, 3:6])
    assert (tip[:, 1] > 0.0099).all() and (tip[:, 0] > 0.03).any() and (tip[:, 0] < -0.03).any()
    assert deepest_penetration(NOMINAL, states) == 0
    hole = np.abs(states[:, 3:6])
    assert (hole <= [0.005, 0.005, 0.25]).all() and (hole.max(axis=0) > [0.0045, 0.0045, 0.22]).all()


def test_the_place_of_the_hole_can_vary_more_or_not_at_all():
    nominal = NOMINAL.starts(range(20))
    for task, factor in [
        (Insert(hole_jitter=0.0), 0),
        (Insert(hole_jitter=0.0025), 0.5),
        (NOMINAL.shifted(hole=1.0), 2),
        (NOMINAL.shifted(hole=2.0), 3),
        (NOMINAL.shifted(hole=-1.0), 0),
        (Insert(hole_jitter=0.0025).shifted(hole=1.0), 1),
    ]:
        states = task.starts(range(20))
        np.testing.assert_allclose(states[:, 3:6], factor * nominal[:, 3:6], atol=1e-12)
        assert np.array_equal(states[:, [0, 2]], nominal[:, [0, 2]])  # the height may follow the board
        assert deepest_penetration(task, states) == 0


@pytest.mark.parametrize("jitter", [-0.001, 0.02, np.nan])
def test_holes_that_lie_elsewhere_are_refused(jitter):
    with pytest.raises(UserError, match=r"insert: hole_jitter is .* m; choose 0 to 0\.015"):
        Insert(hole_jitter=jitter)


def test_a_stricter_depth_is_another_value():
    deep = Insert(full_depth=FULL + 0.0015)
    states = np.concatenate([at([0, -FULL - 0.001, 0]), at([0, -FULL - 0.002, 0])])
    assert started(states, deep).success.tolist() == [False, True] and started(states).success.all()
    np.testing.assert_allclose(deep.goal(states), to_hand(np.array([[0, -FULL - 0.0015, 0]]), states[:, 3:6]))


def test_a_push_moves_a_free_tip_by_millimetres():
    pushed, states = NOMINAL.shifted(push=1.0), NOMINAL.starts(range(64))
    sims = started(states, pushed), started(states)
    farthest = np.zeros(64)
    for _ in range(40):
        for sim in sims:
            sim.step(states[:, 6:])
        farthest = np.maximum(farthest, np.abs(tips(sims[0]) - tips(sims[1]))[:, 0])
    assert (farthest > 0.003).all() and (farthest < 0.006).all()


def test_pushes_come_in_the_asked_share_of_the_episodes():
    states = NOMINAL.starts(range(400))
    sim = started(states, Insert(shift={"push": 1.0}, push_chance=0.15))
    moved = np.zeros(400, dtype=bool)
    for _ in range(30):
        sim.step(states[:, 6:])
        moved |= np.abs(sim.state[:, 0] - states[:, 0]) > 0.001
    assert 0.10 < moved.mean() < 0.20


def test_every_perturbation_changes_the_task_and_none_breaks_it():
    for name, strength in itertools.product(Insert.perturbations, (1.0, 2.0)):
        task = Insert(shift={name: strength})
        sim = started(task.starts(range(4)), task)
        for _ in range(10):
            sim.step(sim.command - np.array([0, 0.01, 0]))
        assert np.isfinite(sim.state).all() and not sim.failure.any(), name


# -- the demonstrator -------------------------------------------------------------------------------------------------
def run(style=STEADY, seeds=range(1000, 1200), task=NOMINAL, states=None) -> tuple[Simulation, np.ndarray, np.ndarray]:
    """The simulation after the expert's episodes, the clean actions (T, N, 3), and where the tips were (T, N, 3)."""
    sim, actions, where = task.batch(len(seeds)), [], []
    for step in play(sim, InsertExpert(style), seeds, states=states):
        actions.append(step.decision.label)
        where.append(tips(sim))
    return sim, np.stack(actions), np.stack(where)


def test_expert_solves_random_starts():
    sim, actions, _ = run()
    assert sim.success.mean() >= 0.99, f"failed starts: {1000 + np.flatnonzero(~sim.success)}"
    assert sim.length.max() < 50 and np.isfinite(actions).all()


@pytest.mark.parametrize("shift", [{"push": 1.0}, {"hole": 1.0}, {"friction": -1.0}, {"size": 1.0}, {"mass": 1.0}])
def test_expert_copes_with_shifts(shift):
    assert run(task=Insert(shift=shift))[0].success.mean() >= 0.95


def test_expert_takes_over_from_any_state():
    """Pushed aside, pressed on the rim, jammed while leaning, half way in, or far away."""
    jam, halfway = at([0.0, -0.012, 0.03]), at([0.0, -0.015, 0.0])
    jam[:, 6:] = to_hand(np.array([[0.001, -0.03, 0.12]]), UPRIGHT)
    rim = at([0.003, 0.0, 0.0])
    rim[:, 6:] = to_hand(np.array([[0.003, -0.03, 0.0]]), UPRIGHT)
    states = np.concatenate([rim, rim * [-1, 1, -1, 1, 1, 1, -1, 1, -1], jam, halfway, at([-0.05, 0.04, 0.3])])
    copies = np.arange(len(states))
    sim, expert = started(NOMINAL.starts(copies)), InsertExpert()
    expert.reset(copies)
    for _ in range(7):
        sim.step(expert.decide(sim, ~sim.done).action)
    sim.reset(states)
    expert.take_over(sim.state, copies)
    while not sim.done.all():
        sim.step(expert.decide(sim, ~sim.done).action)
    assert sim.success.all(), sim.info()["stage"]
    assert run(seeds=copies, states=states)[0].success.all()


def test_the_modes_are_different_ways():
    states, sides = np.concatenate([at([x, 0.03, 0.0]) for x in (-0.03, 0.03)]), []
    for mode in range(InsertExpert.n_modes):
        sim, _, where = run(replace(STEADY, mode=mode), range(2), states=states)
        across = where[..., 0]
        assert sim.success.all()
        sides.append((across.min(), across.max()))
        assert np.abs(across[-12:]).max() < 0.02
    assert sides[1][0] < -0.01 and sides[2][1] > 0.01
    lengths = [run(replace(STEADY, mode=mode), range(50))[0].length.mean() for mode in range(3)]
    assert min(lengths[1:]) > lengths[0] + 1  # the ways round take longer


def test_every_knob_does_what_it_says():
    plain, clean, _ = run(STEADY, range(50))
    mean = plain.length.mean()
    assert run(replace(STEADY, speed=0.6), range(50))[0].length.mean() > 1.2 * mean
    assert run(replace(STEADY, pause=0.3), range(50))[0].length.mean() > mean + 6
    assert run(replace(STEADY, detour=0.8), range(50))[0].length.mean() > mean + 4
    assert run(replace(STEADY, knock=0.02), range(50))[0].length.mean() > mean + 1
    assert run(Style(noise=0.4), range(50))[0].length.mean() > mean + 5
    assert (np.linalg.norm(np.diff(clean, axis=0) * Insert.weight, axis=-1) < 0.03).all()  # no jumps


def test_demonstrations_can_be_cloned():
    demos = demonstrate(InsertExpert, 20, 5)
    assert demos["state"].shape[1] == len(Insert.state_names) and demos["action"].shape[1] == 3
    assert demos.meta["tried"] <= 22
    again = demonstrate(InsertExpert, 3, 5)
    assert np.array_equal(again["action"], demos["action"][: again.n_steps])
    lead = (demos["action"] - demos["state"][:, 6:]) * Insert.weight
    assert (np.linalg.norm(lead, axis=1) < 1.5 * Insert.max_speed / Insert.control_hz).all()
    last = demos["state"][demos.episode_ends - 1].astype(float)
    assert (to_tip(last[:, :3], last[:, 3:6])[:, 1] < -0.025).all()
