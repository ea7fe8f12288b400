"""PickPlace and Lift: their rules, what is seen of them, the grasp, and what their demonstrator does."""

from dataclasses import replace

import numpy as np
import pytest

from ilbook.experts.arm import GRASP, MOVE, OPEN
from ilbook.experts.base import STEADY, Expert, Style
from ilbook.experts.lift import LiftExpert
from ilbook.experts.pickplace import PickPlaceExpert
from ilbook.rollout.play import play
from ilbook.tasks import arm
from ilbook.tasks.lift import HEIGHT, HOLD, Lift
from ilbook.tasks.pickplace import APART, RADIUS, PickPlace
from ilbook.tasks.simulation import Simulation

BOTH = [(PickPlace(), PickPlaceExpert), (Lift(), LiftExpert)]
ARMS = [PickPlace(), Lift()]


def started(task, n: int, first: int = 0) -> Simulation:
    """`n` copies of a task at its starts."""
    sim = task.batch(n)
    sim.reset(task.starts(range(first, first + n)))
    return sim


def ready(expert_type, n: int, style: Style = STEADY) -> Expert:
    """An expert that was reset for `n` copies."""
    expert = expert_type(style)
    expert.reset(range(n))
    return expert


def meant(expert, sim) -> np.ndarray:
    """The clean actions (N, A) of the next step."""
    return expert.decide(sim, ~sim.done).label


def run(task, expert, n: int, first: int = 0, states=None) -> Simulation:
    """Copies of a task after the expert's episodes."""
    sim = task.batch(n)
    for _ in play(sim, expert, range(first, first + n), states=states):
        pass
    return sim


def carrying(n: int) -> tuple[Simulation, PickPlaceExpert]:
    """Copies that hold their cube in the air, on the way to the target."""
    sim, expert = started(PickPlace(), n), ready(PickPlaceExpert, n)
    for _ in range(60):
        action = meant(expert, sim)
        high = sim.state[:, 8] > arm.CUBE + 0.03
        sim.step(np.where(high[:, None], sim.command, action))
    assert high.all() and expert.held.all()
    return sim, expert


# -- the model --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task", ARMS, ids=repr)
def test_the_model_has_the_sizes_of_the_code(task):
    model = task.load_model()
    np.testing.assert_array_equal(model.geom("cube").size, np.full(3, arm.CUBE))
    top = model.geom("table_top")
    np.testing.assert_allclose([top.pos[:2] - top.size[:2], top.pos[:2] + top.size[:2]], arm.TABLE)
    assert top.pos[2] + top.size[2] == pytest.approx(0, abs=2e-4)  # a hair below what is felt: no flicker
    assert model.opt.timestep * task.substeps == pytest.approx(1 / task.control_hz)
    assert [model.joint(model.actuator(i).trnid[0]).name for i in range(6)] == list(arm.JOINTS)
    if task == PickPlace():
        assert model.geom("target").size[0] == RADIUS


def test_only_hands_touch_the_cube():
    model = PickPlace().load_model()
    cube = model.geom("cube").id
    meets = [
        model.geom(g).name
        for g in range(model.ngeom)
        if g != cube
        and (
            model.geom_contype[g] & model.geom_conaffinity[cube] or model.geom_contype[cube] & model.geom_conaffinity[g]
        )
    ]
    assert {"table", "fixed_pad", "moving_pad", "fixed_tip", "jaw_tip", "palm"} <= set(meets)
    assert not {"target", "foot", "base_housing", "table_top", "surround"} & set(meets)


# -- starts and observations ------------------------------------------------------------------------------------------
def test_starts_are_reachable_apart_and_turned_every_way():
    states = PickPlace().starts(range(300))
    assert np.array_equal(states[:, :6], states[:, 15:])  # at rest where the command is
    cube, target = states[:, 6:8], states[:, 13:15]
    assert (np.linalg.norm(cube - target, axis=1) >= APART).all()
    for place in (cube, target):
        radius = np.linalg.norm(place - arm.PAN[:2], axis=1)
        assert radius.min() >= arm.NEAR and radius.max() <= arm.FAR and np.ptp(place[:, 1]) > 0.3
    yaw = 2 * np.arctan2(states[:, 12], states[:, 9])
    assert (np.histogram(yaw % (2 * np.pi), 8, (0, 2 * np.pi))[0] > 15).all()
    assert np.abs(states[:, :6] - arm.REST).max() < 0.13 and np.std(states[:, 0]) > 0.03
    assert (states[:, 8] == arm.CUBE).all()


def test_a_scene_left_alone_stays():
    sim = started(PickPlace(), 8)
    before = sim.state
    for _ in range(30):
        sim.step(sim.command)
    np.testing.assert_allclose(sim.state[:, 6:13], before[:, 6:13], atol=1e-4)
    assert np.array_equal(sim.state[:, 13:15], before[:, 13:15])  # nothing ever moves the target
    np.testing.assert_allclose(sim.state[:, :6], before[:, :6], atol=0.005)  # stiff servos hardly sag


def test_observations_are_what_their_names_say():
    sim, _ = carrying(4)
    state = sim.state
    seen = dict(zip(PickPlace.obs_names, sim.obs.T, strict=True))
    held = dict(zip(PickPlace.state_names, state.T, strict=True))
    assert all(np.array_equal(seen[name], held[name]) for name in set(seen) & set(held))
    grasp = arm.forward(state[:, :6])[0]
    for i, axis in enumerate("xyz"):
        assert np.array_equal(seen[f"grasp {axis}"], grasp[:, i])
        assert np.array_equal(seen[f"grasp to cube {axis}"], held[f"cube {axis}"] - grasp[:, i])
    assert np.array_equal(seen["cube to target x"], held["target x"] - held["cube x"])
    # Jaws that hold a cube lie flat on its faces.
    assert (seen["cos 4 jaw to cube"] > 0.97).all() and (np.abs(seen["sin 4 jaw to cube"]) < 0.25).all()
    assert np.array_equal(Lift.observe(np.delete(state, [13, 14], axis=1)), sim.obs[:, : len(Lift.obs_names)])


def test_a_turned_cube_is_seen_turned():
    state = PickPlace().starts([0])[0]
    state[:5] = arm.solve_ik(np.array([0.2, 0, 0.03]), arm.DOWN, 0.0)[0]
    yaw = state[4] - state[0] - arm.TILT
    for turn in (0.0, 0.2, -0.3, np.pi / 2 + 0.1):
        state[9:13] = np.cos((yaw + turn) / 2), 0, 0, np.sin((yaw + turn) / 2)
        seen = dict(zip(PickPlace.obs_names, PickPlace.observe(state), strict=True))
        expected = np.cos(4 * turn), np.sin(4 * turn)
        assert (seen["cos 4 jaw to cube"], seen["sin 4 jaw to cube"]) == pytest.approx(expected, abs=1e-5)


# -- rules ------------------------------------------------------------------------------------------------------------
def test_a_cube_on_the_target_counts_once_the_hand_has_let_go():
    task = PickPlace()
    sim, state = task.batch(4), task.starts(range(4))
    state[:, 13:15] = state[:, 6:8] + [[0.029, 0], [0.031, 0], [0, -0.029], [0, 0]]
    state[3, 8] += 0.02  # in the air
    sim.reset(state)
    assert sim.success.tolist() == [True, False, True, False]
    assert sim.done.tolist() == [True, False, True, False] and sim.score[0] == 1.0


def test_a_cube_that_is_still_held_does_not_count():
    sim, expert = carrying(8)
    sim.reset(sim.state)
    while not (low := np.abs(sim.state[:, 8] - arm.CUBE) < 0.003).all() and sim.length.max() < 100:
        action = meant(expert, sim)
        sim.step(np.where(low[:, None], sim.command, np.column_stack([action[:, :5], sim.command[:, 5]])))
    assert low.all() and not sim.success.any()
    assert (sim.info()["carried"] == 1).all() and (sim.score == 0.75).all()
    opened = sim.command.copy()
    opened[:, 5] = OPEN
    for _ in range(6):
        sim.step(opened)
    assert sim.success.all() and (sim.score == 1.0).all()


def test_the_score_climbs_by_milestones():
    sim, expert, scores = started(PickPlace(), 16), ready(PickPlaceExpert, 16), []
    while not sim.done.all():
        scores.append(sim.score.copy())
        assert (sim.reward <= 1).all() and (sim.reward >= 0).all()
        sim.step(meant(expert, sim))
    scores = np.array([*scores, sim.score])
    assert (np.diff(scores, axis=0) >= 0).all() and (scores[0] == 0).all() and (scores[-1] == 1).all()
    assert set(np.unique(scores)) == {0, 0.25, 0.5, 0.75, 1}


@pytest.mark.parametrize("task", ARMS, ids=repr)
def test_a_cube_off_the_table_is_lost(task):
    sim, state = task.batch(3), task.starts(range(3))
    state[:, 6:8] = [[arm.TABLE[1, 0] - 0.001, 0], [arm.TABLE[1, 0] + 0.001, 0], [0.2, -arm.TABLE[1, 1] - 0.001]]
    sim.reset(state)
    assert sim.failure.tolist() == [False, True, True]


def test_lifting_takes_half_a_second_at_height():
    sim, expert = started(Lift(), 8), ready(LiftExpert, 8)
    above = np.zeros(8, dtype=int)
    while not sim.done.all():
        running = ~sim.done
        sim.step(meant(expert, sim))
        above = np.where(running, np.where(sim.state[:, 8] - arm.CUBE > HEIGHT, above + 1, 0), above)
        assert np.array_equal(sim.success, above >= HOLD)
    assert sim.success.all() and (sim.score == 1).all()
    thrown = Lift().starts(range(8))
    thrown[:, 8] += 0.2  # high, but in nobody's hand
    sim.reset(thrown)
    for _ in range(10):
        sim.step(sim.command)
    assert not sim.success.any() and (sim.score < 0.6).all()


# -- the grasp --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("strengths", [{}, {"mass": 2.0, "friction": 2.0}])
def test_a_held_cube_does_not_creep(strengths):
    endless = Lift(shift=strengths, hold=10**6, max_steps=10**6)
    sim, expert = started(endless, 8), ready(LiftExpert, 8)
    for _ in range(60):
        sim.step(meant(expert, sim))
    before, still = sim.state, sim.command.copy()
    for _ in range(100):
        sim.step(still)
    assert np.abs(sim.state[:, 6:9] - before[:, 6:9]).max() < 0.002
    assert (before[:, 8] > arm.CUBE + HEIGHT).all()


def test_closed_jaws_stop_at_the_cube_and_each_other():
    sim, _ = carrying(4)
    assert ((sim.state[:, 5] > 0.12) & (sim.state[:, 5] < 0.18)).all()  # parallel pads on 28 mm
    alone = started(PickPlace(), 1)
    shut = alone.command.copy()
    shut[:, 5] = arm.LOW[5]
    for _ in range(15):
        alone.step(shut)
    assert alone.state[0, 5] < arm.LOW[5] + 0.01


def test_a_state_in_the_middle_of_the_way_can_be_continued():
    sim, _ = carrying(8)
    other = run(PickPlace(), PickPlaceExpert(), 8, states=sim.state)
    assert other.success.all() and np.median(other.length) < 30  # without another grasp


# -- distribution shift -----------------------------------------------------------------------------------------------
def test_shifts_do_what_they_say():
    nominal = PickPlace().load_model()
    larger = PickPlace().shifted(size=1.0)
    assert larger.load_model().geom("cube").size[0] == pytest.approx(1.15 * arm.CUBE)
    assert larger.starts([0])[0, 8] == pytest.approx(1.15 * arm.CUBE)
    heavier, slippery = (PickPlace().shifted(**{name: 1.0}).load_model() for name in ("mass", "friction"))
    assert heavier.body("cube").mass == pytest.approx(3 * nominal.body("cube").mass)
    assert slippery.geom("fixed_pad").friction[0] == pytest.approx(nominal.geom("fixed_pad").friction[0] / 3)
    coloured = PickPlace().shifted(colours=1.0).load_model()
    changed = {
        nominal.geom(g).name for g in range(nominal.ngeom) if (nominal.geom_rgba[g] != coloured.geom_rgba[g]).any()
    }
    assert {"cube", "target", "upper_web", "palm"} <= changed and not {"elbow_servo", "table_top"} & changed


def test_a_push_slides_the_cube_some_way_along_the_table():
    sim = started(PickPlace().shifted(push=1.0), 64)
    before = sim.state[:, 6:9]
    for _ in range(40):
        sim.step(sim.command)
    moved = sim.state[:, 6:9] - before
    far = np.linalg.norm(moved[:, :2], axis=1)
    assert far.min() > 0.01 and far.max() < 0.06 and np.abs(moved[:, 2]).max() < 0.002
    bearing = np.arctan2(moved[:, 1], moved[:, 0])
    assert (np.histogram(bearing, 4, (-np.pi, np.pi))[0] > 4).all()  # every way


@pytest.mark.parametrize("name", ["friction", "mass", "size", "lag", "push"])
def test_the_expert_copes_with_each_shift(name):
    sim = run(PickPlace().shifted(**{name: 1.0}), PickPlaceExpert(), 64, first=1000)
    assert sim.success.mean() >= 0.9


# -- the demonstrator -------------------------------------------------------------------------------------------------
def test_a_dropped_cube_is_grasped_again():
    sim, expert = carrying(12)
    sim.length[:] = 0
    opened = sim.command.copy()
    opened[:, 5] = 0.8
    for _ in range(8):
        sim.step(opened)
    lying = sim.state[:, 8] < arm.CUBE + 0.01
    assert lying.all()
    again = np.zeros(12, dtype=bool)
    while not sim.done.all():
        sim.step(meant(expert, sim))
        again |= (expert._phase == MOVE) & (sim.state[:, 8] > arm.CUBE + 0.02)
    assert sim.success.mean() > 0.9 and again[sim.success].mean() > 0.8


@pytest.mark.parametrize("mode", [0, 1])
def test_modes_take_different_faces(mode):
    """Mode 0 turns the wrist by 45 degrees at most, either way; mode 1 always turns it, by the quarter that is left."""
    sim, expert, roll = PickPlace().batch(64), PickPlaceExpert(replace(STEADY, mode=mode)), np.full(64, np.nan)
    for step in play(sim, expert, range(64)):
        first = np.isnan(roll) & (expert._phase == GRASP)
        roll[first] = step.state[first, 4]
    assert sim.success.mean() > 0.95
    low, high = [(-0.9, 0.9), (0.3, 2.4)][mode]  # 45 degrees are doubtful, and the hand starts a little turned
    assert ((roll > low) & (roll < high)).all() and abs(np.median(roll) - mode * np.pi / 2) < 0.4


@pytest.mark.parametrize(("task", "expert_type"), BOTH, ids=repr)
def test_demonstrations_are_smooth_and_within_the_speed_limit(task, expert_type):
    sim, actions, commands = task.batch(32), [], []
    for step in play(sim, expert_type(), range(32)):
        commands.append(step.state[:, -6:])
        actions.append(np.where(step.alive[:, None], step.decision.label, commands[-1]))
    moves = (np.array(actions) - np.array(commands)) * task.weight
    assert np.linalg.norm(moves, axis=2).max() <= task.max_speed / task.control_hz + 1e-9
    places = arm.forward(np.array(actions))[0]
    assert np.linalg.norm(np.diff(places, axis=0), axis=2).max() < 0.02  # m in a tenth of a second
    assert 20 <= np.median(sim.length) <= 60


def test_a_hand_that_slips_a_little_still_succeeds():
    slips, steady = (run(PickPlace(), PickPlaceExpert(style), 64) for style in (Style(), STEADY))
    assert slips.success.mean() >= 0.95 and slips.length.mean() > steady.length.mean()
