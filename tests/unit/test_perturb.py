"""What the perturbations do to a model, number by number."""

import mujoco
import numpy as np
import pytest

from ilbook.tasks import perturb
from ilbook.tasks.avoid import RADII, RADIUS, ROWS, Avoid
from ilbook.tasks.pusht import TARGET, PushT


def test_strength_0_leaves_the_model_as_the_file_has_it():
    ours = PushT().load_model()
    theirs = mujoco.MjModel.from_xml_path(str(perturb.__file__).replace("perturb.py", "pusht.xml"))
    for name in ("body_mass", "geom_size", "geom_friction", "geom_rgba", "cam_pos", "cam_quat", "actuator_gainprm"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_friction_and_mass_are_ratios_that_undo_each_other():
    nominal, less, more = (PushT().shifted(friction=s, mass=s).load_model() for s in (0, 1, -1))
    bar, block = nominal.geom("bar").id, nominal.body("block").id
    assert nominal.geom_friction[bar, 0] / less.geom_friction[bar, 0] == pytest.approx(3)
    assert more.geom_friction[bar, 0] / nominal.geom_friction[bar, 0] == pytest.approx(3)
    assert less.body_mass[block] / nominal.body_mass[block] == pytest.approx(3)
    dofs = slice(2, 5)
    np.testing.assert_allclose(less.dof_damping[dofs], 3 * nominal.dof_damping[dofs])
    assert less.dof_damping[0] == nominal.dof_damping[0], "the pusher is as it was"


def test_a_lagging_servo_has_the_time_constant_that_is_named():
    sims = [task.batch() for task in (Avoid(), Avoid().shifted(lag=1.0))]
    for one in sims:
        one.reset(one.task.starts([0]))
        for _ in range(15):
            one.step(one.command + np.array([0.0, 0.004]))  # steadily upwards, 0.1 m/s
    behind = [(one.command - one.state[:, :2])[0, 1] / 0.1 for one in sims]
    assert behind[1] - behind[0] == pytest.approx(perturb.LAG, rel=0.05)


def test_a_servo_that_lags_is_reset_with_its_copy():
    late, start = PushT().shifted(lag=1.0).batch(2), PushT().starts([0, 1])
    late.reset(start)
    for _ in range(10):
        late.step(np.full((2, 2), 0.25))
    late.reset(start)
    late.step(start[:, 5:])
    np.testing.assert_allclose(late.state, start, atol=1e-9)


def test_a_push_moves_the_block_once():
    pushed, start = PushT().shifted(push=1.0).batch(16), PushT().starts(range(16))
    start[:, :2] = start[:, 5:] = [0.01, 0.01]  # out of the way
    pushed.reset(start)
    places = [pushed.state[:, 2:4]]
    for _ in range(150):
        pushed.step(start[:, 5:])
        places.append(pushed.state[:, 2:4])
    places = np.stack(places)
    moved = np.linalg.norm(places[-1] - places[0], axis=1)
    assert ((moved > 0.02) & (moved < 0.06)).all()
    moving = np.linalg.norm(np.diff(places, axis=0), axis=2) > 1e-4
    begins = moving.argmax(axis=0)
    assert begins.min() >= 0.1 * PushT.max_steps and begins.max() <= 0.4 * PushT.max_steps
    assert moving.sum(axis=0).max() <= 6 and len(set(begins)) > 8, "short, and at times of their own"


def test_the_chance_of_a_push():
    rare = PushT(shift={"push": 1.0}, push_chance=0.25)
    states, model = rare.starts(range(200)), rare.load_model(looks=False)
    begins = np.array([rare.draw_push(state, model)[0] for state in states])
    assert 0.15 < (begins < rare.max_steps).mean() < 0.35 and begins.max() == rare.max_steps


def test_a_larger_block_is_judged_on_a_larger_target():
    larger, start = PushT().shifted(size=1.0).batch(3), PushT().starts([0, 1, 2])
    start[:, 2:5] = TARGET + np.array([[0, 0, 0], [0.0115, 0, 0], [0, 0, 0.2]])
    larger.reset(start)
    nominal = PushT().batch(3)
    start[1, 2] = TARGET[0] + 0.01  # 15 % less
    nominal.reset(start)
    np.testing.assert_allclose(larger.score, nominal.score, atol=1e-9)
    assert larger.score[0] == pytest.approx(1)


def test_larger_obstacles_are_touched_earlier():
    edge = ROWS[0] - RADII[0] - RADIUS
    state = np.array([[0.5, edge - 0.003, 0.5, edge - 0.003]])
    for task, touches in ((Avoid(), False), (Avoid().shifted(size=1.0), True)):
        sim = task.batch()
        sim.reset(state)
        assert sim.failure[0] == touches


def test_distractors_and_colours_follow_their_strength():
    counts = [PushT().shifted(distractors=s).load_model().ngeom - PushT().load_model().ngeom for s in (0.3, 1, 2)]
    assert counts == [1, 3, 6]
    rgba = PushT().shifted(colours=1.0).load_model().geom("bar").rgba
    assert np.abs(rgba - PushT().load_model().geom("bar").rgba).max() > 0.1
