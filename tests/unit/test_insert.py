"""Insert: its geometry, the physics of contact at 1 mm of play, its options, and its demonstrator."""

import itertools
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.experts.base import STEADY, Expert, Style
from ilbook.experts.insert import InsertExpert
from ilbook.tasks.insert import FLOOR, FULL, HOLE, LENGTH, PEG, PLAY, STAGES, Insert, to_hand, to_tip

UPRIGHT = np.array([[0.0, 0.0, 0.0]])  # a hole at its nominal place


def at(tip, hole=UPRIGHT) -> np.ndarray:
    """A state (1, 9) at rest whose tip has this pose in the frame of the hole."""
    hand = to_hand(np.atleast_2d(tip).astype(float), hole)
    return np.concatenate([hand, hole, hand], axis=1)


def tips(task) -> np.ndarray:
    """Where the tips are (N, 3), in the frames of their holes."""
    return to_tip(task.state[:, :3], task.state[:, 3:6])


def press(task, states, across, tilt=0.0, steps=60, speed=0.03) -> np.ndarray:
    """Go down to full depth with an error in place and tilt; the depths (T, N) of the tips."""
    task.reset(states)
    hole, depths = states[:, 3:6], []
    for k in range(steps):
        height = np.maximum(0.005 - speed / task.control_hz * k, -0.033)
        goal = np.stack(np.broadcast_arrays(across, height, tilt), axis=-1) * np.ones((len(states), 3))
        task.step(to_hand(goal, hole))
        depths.append(-tips(task)[:, 1])
    return np.stack(depths)


def deepest_penetration(task_type, states) -> float:
    """Metres, over all states (n, 9)."""
    model = task_type.load_model()
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
    model = Insert.load_model()
    data = mujoco.MjData(model)
    for state in Insert(1).starts(range(5)):
        data.qpos[:] = state[:6]
        mujoco.mj_kinematics(model, data)
        peg, hole = data.body("peg"), data.body("hole")
        tip = peg.xpos + peg.xmat.reshape(3, 3) @ [0, 0, -LENGTH]
        local = hole.xmat.reshape(3, 3).T @ (tip - hole.xpos)
        np.testing.assert_allclose(to_tip(state[:3], state[3:6])[:2], local[[0, 2]], atol=1e-12)


def test_the_play_between_peg_and_hole_is_one_millimetre():
    model = Insert.load_model()
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
    task_type = Insert.perturbed(size=strength)
    model = task_type.load_model()
    assert HOLE - 2 * model.geom("peg").size[0] == pytest.approx(play) == pytest.approx(task_type.play())
    right = model.geom("corner_right")
    assert right.pos[0] + right.size[0] == pytest.approx(model.geom("peg").size[0])
    task = task_type(1)
    press(task, at([0, 0.005, 0]), 0.0)
    assert task.success[0]


# -- the physics of contact -------------------------------------------------------------------------------------------
def test_a_peg_in_line_goes_in_and_one_aside_does_not():
    across = np.array([0.0, 0.0004, 0.0010, 0.0015, 0.003, -0.0004, -0.0010, -0.0015, -0.003])
    task = Insert(len(across))
    states = np.concatenate([at([x, 0.005, 0]) for x in across])
    depths = press(task, states, across)
    assert task.success.tolist() == (np.abs(across) < 0.0005).tolist()
    assert (depths[-1, ~task.success] < 0.001).all()  # pressed with 17 N, and not in
    assert (task.info()["stage"] == np.where(task.success, 4, 1)).all()


def test_a_leaning_peg_enters_and_jams():
    task = Insert(2)
    depths = press(task, np.concatenate([at([0, 0.005, 0])] * 2), 0.0, tilt=np.array([0.02, 0.12]))
    assert task.success.tolist() == [True, False]  # 1 mm of play allows 0.033 rad at full depth
    assert 0.005 < depths[-1, 1] < 0.028


def test_what_sticks_deflects_its_servo_by_millimetres():
    task = Insert(1)
    task.reset(at([0.03, 0.002, 0]))
    for _ in range(30):
        task.step(to_hand(np.array([[0.03, -0.006, 0.0]]), UPRIGHT))
    assert tips(task)[0, 1] == pytest.approx(0.0, abs=1e-4)
    assert to_tip(task.command, UPRIGHT)[0, 1] == pytest.approx(-0.006, abs=1e-6)


def test_friction_holds_a_pressed_peg():
    """A solver whose tolerance was spoilt by the heavy hole let it creep by millimetres."""
    task = Insert(1)
    task.reset(at([0.03, 0.001, 0]))
    moved = []
    for goal in [[0.03, -0.01, 0]] * 20 + [[0.031, -0.01, 0]] * 60:
        task.step(to_hand(np.array([goal]), UPRIGHT))
        moved.append(tips(task)[0, 0])
    assert abs(moved[-1] - moved[19]) < 0.0003  # 0.5 N aside against 0.4 * 5 N


def test_nothing_goes_through_anything():
    """At full pressure on the board, on the rim and jammed in the hole, and when the peg comes down at full speed."""
    across = np.array([0.0, 0.0, 0.001, 0.003, 0.012, 0.03])
    tilt = np.array([0.0, 0.12, 0.0, 0.05, 0.0, -0.1])
    task = Insert(len(across))
    press(task, np.concatenate([at([x, 0.005, t]) for x, t in zip(across, tilt, strict=True)]), across, tilt)
    assert deepest_penetration(Insert, task.state) < 0.0001
    task.reset(np.concatenate([at([x, 0.03, t]) for x, t in zip(across, tilt, strict=True)]))
    deepest = 0.0
    for _ in range(20):
        task.step(to_hand(np.column_stack([across, np.full(6, -0.033), tilt]), UPRIGHT))
        deepest = max(deepest, *(deepest_penetration(Insert, run[:, 1:7]) for run in task._trace))
    assert 0 < deepest < 0.0006


def test_the_hole_stays_where_it_is():
    task = Insert(16)
    task.reset(task.starts(range(16)))
    hole = task.state[:, 3:6]
    rng = np.random.default_rng(0)
    for _ in range(60):
        task.step(rng.uniform(task.action_low, task.action_high, (16, 3)) * [1, 0.3, 1])
    np.testing.assert_allclose(task.state[:, 3:6], hole, atol=1e-6)


# -- rules and options ------------------------------------------------------------------------------------------------
def test_success_is_full_depth():
    task = Insert(3)
    task.reset(np.concatenate([at([0, -FULL + 1e-6, 0]), at([0, -FULL - 1e-6, 0]), at([0, -FULL / 2 - 1e-6, 0])]))
    assert task.success.tolist() == [False, True, False]
    assert task.score == pytest.approx([1, 1, 0.5], abs=1e-3) and task.reward.tolist() == [0, 1, 0]
    assert [STAGES[k] for k in task.info()["stage"]] == ["half way", "inserted", "half way"]


def test_beside_the_hole_there_is_no_depth():
    task = Insert(1)
    task.reset(at([0.03, 0.0, 0.1]))
    for _ in range(20):
        task.step(task.action_low[None] * [-0.3, 1, 0])
    assert task.score[0] == 0 and STAGES[task.info()["stage"][0]] == "away"


def test_leaving_the_workspace_fails():
    task = Insert(2)
    states = np.concatenate([at([0.05, 0.03, 0])] * 2)
    states[1, 0] = 0.16
    task.reset(states)
    assert task.failure.tolist() == [False, True]


def test_starts():
    states = Insert(1).starts(range(400))
    assert np.array_equal(states[:, :3], states[:, 6:])  # at rest where the command is
    tip = to_tip(states[:, :3], states[:, 3:6])
    assert (tip[:, 1] > 0.0099).all() and (tip[:, 0] > 0.03).any() and (tip[:, 0] < -0.03).any()
    assert deepest_penetration(Insert, states) == 0
    hole = np.abs(states[:, 3:6])
    assert (hole <= [0.005, 0.005, 0.25]).all() and (hole.max(axis=0) > [0.0045, 0.0045, 0.22]).all()


def test_the_place_of_the_hole_can_vary_more_or_not_at_all():
    nominal = Insert(1).starts(range(20))
    for task_type, factor in [
        (Insert.variant(hole_jitter=0.0), 0),
        (Insert.variant(hole_jitter=0.0025), 0.5),
        (Insert.perturbed(hole=1.0), 2),
        (Insert.perturbed(hole=2.0), 3),
        (Insert.perturbed(hole=-1.0), 0),
        (Insert.variant(hole_jitter=0.0025).perturbed(hole=1.0), 1),
    ]:
        states = task_type(1).starts(range(20))
        np.testing.assert_allclose(states[:, 3:6], factor * nominal[:, 3:6], atol=1e-12)
        assert np.array_equal(states[:, [0, 2]], nominal[:, [0, 2]])  # the height may follow the board
        assert deepest_penetration(task_type, states) == 0


def test_variants_are_types_like_any_other():
    one = Insert.variant(push_chance=0.15)
    assert one is Insert.variant(push_chance=0.15) and one.strengths == {"push": 1.0} and one.push_chance == 0.15
    assert Insert.variant() is Insert and Insert.variant(hole_jitter=0.005) is Insert
    both = Insert.variant(hole_jitter=0.002, push_chance=0.15).perturbed(friction=1.0)
    assert (both.hole_jitter, both.push_chance, both.strengths) == (0.002, 0.15, {"push": 1.0, "friction": 1.0})
    assert Insert.perturbed(push=0.5).variant(push_chance=0.3).strengths == {"push": 0.5}
    assert issubclass(both, Insert) and both.__name__ == "Insert" and both.gym_id == Insert.gym_id
    for wrong in ({"hole_jitter": -0.001}, {"hole_jitter": 0.02}, {"push_chance": 1.5}, {"hole_jitter": np.nan}):
        with pytest.raises(UserError, match=f"insert: {next(iter(wrong))} is .*choose 0 to"):
            Insert.variant(**wrong)


def test_a_push_moves_a_free_tip_by_millimetres():
    pushed, calm = Insert.perturbed(push=1.0)(64), Insert(64)
    states = pushed.starts(range(64))
    farthest = np.zeros(64)
    for task in (pushed, calm):
        task.reset(states)
    for _ in range(40):
        for task in (pushed, calm):
            task.step(states[:, 6:])
        farthest = np.maximum(farthest, np.abs(tips(pushed) - tips(calm))[:, 0])
    assert (farthest > 0.003).all() and (farthest < 0.006).all()


def test_pushes_come_in_the_asked_share_of_the_episodes():
    task = Insert.variant(push_chance=0.15)(400)
    states = task.starts(range(400))
    task.reset(states)
    moved = np.zeros(400, dtype=bool)
    for _ in range(30):
        task.step(states[:, 6:])
        moved |= np.abs(task.state[:, 0] - states[:, 0]) > 0.001
    assert 0.10 < moved.mean() < 0.20


def test_every_perturbation_changes_the_task_and_none_breaks_it():
    for name, strength in itertools.product(Insert.perturbations, (1.0, 2.0)):
        task = Insert.perturbed(**{name: strength})(4)
        task.reset(task.starts(range(4)))
        for _ in range(10):
            task.step(task.command - np.array([0, 0.01, 0]))
        assert np.isfinite(task.state).all() and not task.failure.any(), name


# -- the demonstrator -------------------------------------------------------------------------------------------------
def play(expert: Expert, task: Insert, states=None) -> np.ndarray:
    """Run the expert's episodes; the clean actions (T, N, 3)."""
    if states is not None:
        task.reset(states)
    actions = []
    while not task.done.all():
        actions.append(expert.act(task.state))
        task.step(expert.slip(actions[-1]))
    return np.stack(actions)


def run(style=STEADY, seeds=range(1000, 1200), task_type=Insert) -> tuple[Insert, np.ndarray]:
    task = task_type(len(seeds))
    return task, play(InsertExpert(len(seeds), style, [(s,) for s in seeds]), task, task.starts(seeds))


def test_expert_solves_random_starts():
    task, actions = run()
    assert task.success.mean() >= 0.99, f"failed starts: {1000 + np.flatnonzero(~task.success)}"
    assert task.length.max() < 50 and np.isfinite(actions).all()


@pytest.mark.parametrize("shift", [{"push": 1.0}, {"hole": 1.0}, {"friction": -1.0}, {"size": 1.0}, {"mass": 1.0}])
def test_expert_copes_with_shifts(shift):
    assert run(task_type=Insert.perturbed(**shift))[0].success.mean() >= 0.95


def test_expert_is_deterministic():
    (first, one), (second, two) = (run(Style(noise=0.2, knock=0.01, pause=0.1, detour=0.3), range(6)) for _ in "ab")
    assert np.array_equal(one, two) and np.array_equal(first.state, second.state)


def test_expert_takes_over_from_any_state():
    """Pushed aside, pressed on the rim, jammed while leaning, half way in, or far away."""
    jam, halfway = at([0.0, -0.012, 0.03]), at([0.0, -0.015, 0.0])
    jam[:, 6:] = to_hand(np.array([[0.001, -0.03, 0.12]]), UPRIGHT)
    rim = at([0.003, 0.0, 0.0])
    rim[:, 6:] = to_hand(np.array([[0.003, -0.03, 0.0]]), UPRIGHT)
    states = np.concatenate([rim, rim * [-1, 1, -1, 1, 1, 1, -1, 1, -1], jam, halfway, at([-0.05, 0.04, 0.3])])
    task, expert = Insert(len(states)), InsertExpert(len(states))
    task.reset(Insert(1).starts(range(len(states))))
    for _ in range(7):
        task.step(expert.act(task.state))
    task.reset(states)
    expert.take_over(task.state, np.arange(len(states)))
    play(expert, task)
    assert task.success.all(), task.info()["stage"]


def test_take_over_leaves_other_copies_alone():
    style = Style(noise=0.2, pause=0.2)
    one, two = InsertExpert(4, style), InsertExpert(4, style)
    task = Insert(4)
    states = task.starts(range(4))
    for expert in (one, two):
        expert.act(states)
    one.take_over(states, np.array([2]))
    assert np.array_equal(one.act(states)[[0, 1, 3]], two.act(states)[[0, 1, 3]])


def test_the_modes_are_different_ways():
    states = np.concatenate([at([x, 0.03, 0.0]) for x in (-0.03, 0.03)])
    sides = []
    for mode in range(InsertExpert.n_modes):
        task, expert, across = Insert(2), InsertExpert(2, replace(STEADY, mode=mode)), []
        task.reset(states)
        while not task.done.all():
            task.step(expert.act(task.state))
            across.append(tips(task)[:, 0])
        assert task.success.all()
        sides.append((np.min(across), np.max(across)))
        late = np.stack(across)[-12:]
        assert np.abs(late).max() < 0.02
    across = np.array(sides)
    assert across[1, 0] < -0.01 and across[2, 1] > 0.01
    lengths = [run(replace(STEADY, mode=mode), range(50))[0].length.mean() for mode in range(3)]
    assert min(lengths[1:]) > lengths[0] + 1  # the ways round take longer


def test_every_knob_does_what_it_says():
    plain, clean = run(STEADY, range(50))
    mean = plain.length.mean()
    assert run(replace(STEADY, speed=0.6), range(50))[0].length.mean() > 1.2 * mean
    assert run(replace(STEADY, pause=0.3), range(50))[0].length.mean() > mean + 6
    assert run(replace(STEADY, detour=0.8), range(50))[0].length.mean() > mean + 4
    assert run(replace(STEADY, knock=0.02), range(50))[0].length.mean() > mean + 1
    assert run(Style(noise=0.4), range(50))[0].length.mean() > mean + 5
    assert (np.linalg.norm(np.diff(clean, axis=0) * Insert.weight, axis=-1) < 0.03).all()  # no jumps


def test_demonstrations_can_be_cloned():
    demos = InsertExpert.demonstrate(20, 5)
    assert demos["state"].shape[1] == len(Insert.state_names) and demos["action"].shape[1] == 3
    assert demos.meta["tried"] <= 22
    again = InsertExpert.demonstrate(3, 5)
    assert np.array_equal(again["action"], demos["action"][: again.n_steps])
    lead = (demos["action"] - demos["state"][:, 6:]) * Insert.weight
    assert (np.linalg.norm(lead, axis=1) < 1.5 * Insert.max_speed / Insert.control_hz).all()
    last = demos["state"][demos.episode_ends - 1].astype(float)
    assert (to_tip(last[:, :3], last[:, 3:6])[:, 1] < -0.025).all()
