"""PushT: its geometry against an independent library, its rules, and its demonstrator."""

from dataclasses import replace

import numpy as np
import pytest
from shapely import Point, Polygon, affinity, box, union_all

from ilbook.experts.pusht import PushTExpert
from ilbook.rollout.play import play
from ilbook.tasks import pusht
from ilbook.tasks.pusht import OUTLINE, PUSHER_RADIUS, RECTANGLES, SUCCESS, TARGET, WORLD, PushT
from ilbook.tasks.simulation import Simulation

BLOCK = Polygon(OUTLINE)


def placed(pose) -> Polygon:
    """The block at a pose (3,), made by shapely."""
    turned = affinity.rotate(BLOCK, pose[2], origin=(0, 0), use_radians=True)
    return affinity.translate(turned, pose[0], pose[1])


def random_poses(rng, n, reach):
    """Poses (n, 3) within `reach` metres of the target's centre."""
    return np.column_stack([TARGET[:2] + rng.uniform(-reach, reach, (n, 2)), rng.uniform(-np.pi, np.pi, n)])


def beside(offset) -> np.ndarray:
    """The pose (1, 3) that lies `offset` (x, y, angle in the target's frame) away from the target."""
    xy = pusht.to_world(np.array([offset[:2]]), TARGET)[0]
    return np.array([[*xy, TARGET[2] + offset[2]]])


# -- geometry ---------------------------------------------------------------------------------------------------------
def test_outline_and_rectangles_are_one_t():
    t = union_all([box(x0, y0, x1, y1) for x0, x1, y0, y1 in RECTANGLES])
    assert t.symmetric_difference(BLOCK).area < 1e-12
    assert Polygon(OUTLINE).exterior.is_ccw
    np.testing.assert_allclose(pusht.AREA, BLOCK.area, rtol=1e-12)
    assert np.allclose(BLOCK.centroid.coords[0], 0, atol=1e-5)  # poses are those of the centre of mass


@pytest.mark.parametrize("reach", [0.005, 0.06, 0.2])
def test_overlap_is_the_area_that_shapely_finds(reach):
    poses = random_poses(np.random.default_rng(0), 150, reach)
    goal = placed(TARGET)
    expected = [placed(pose).intersection(goal).area / goal.area for pose in poses]
    np.testing.assert_allclose(pusht.overlap(poses), expected, atol=1e-9)


@pytest.mark.parametrize("turns", [-1, 0, 1])
def test_on_the_target_the_overlap_is_exactly_one(turns):
    assert pusht.overlap(TARGET + np.array([0, 0, 2 * np.pi * turns]))[0] == pytest.approx(1.0, abs=1e-9)


def test_far_away_the_overlap_is_zero():
    assert pusht.overlap(np.array([[0.45, 0.45, 1.0]]))[0] == 0.0


@pytest.mark.parametrize(
    ("offset", "share"),
    [
        ((0.03, 0, 0), 1 - (0.03 * 0.03 + 0.03 * 0.09) / pusht.AREA),  # sideways by the width of the stem
        ((0, 0.03, 0), (0.03 * 0.09 + 0) / pusht.AREA),  # up by the height of the bar: the bars miss, the stems do not
        ((0, 0, np.pi), None),
        ((0, 0, np.pi / 2), None),
        ((0, -0.12, 0), 0.0),  # the bar begins where the stem ends
    ],
)
def test_overlap_where_edges_lie_on_edges(offset, share):
    """Parallel and shared edges are where clipping goes wrong."""
    pose = beside(offset)
    expected = placed(pose[0]).intersection(placed(TARGET)).area / BLOCK.area if share is None else share
    assert pusht.overlap(pose)[0] == pytest.approx(expected, abs=1e-6)


def test_overlap_has_the_symmetry_of_the_t():
    for x, y, angle in np.random.default_rng(2).uniform(-0.05, 0.05, (20, 3)) * [1, 1, 20]:
        mirrored = pusht.overlap(beside((-x, y, -angle)))
        assert pusht.overlap(beside((x, y, angle)))[0] == pytest.approx(mirrored[0], abs=1e-9)


def test_distance_to_block():
    rng = np.random.default_rng(3)
    poses, points = random_poses(rng, 200, 0.1), rng.uniform(0, WORLD, (200, 2))
    expected = [placed(pose).distance(Point(point)) for pose, point in zip(poses, points, strict=True)]
    assert 0.0 in expected
    np.testing.assert_allclose(pusht.distance_to_block(points, poses), expected, atol=1e-9)


def test_to_block_undoes_to_world():
    poses, points = random_poses(np.random.default_rng(4), 10, 0.2), np.random.default_rng(5).uniform(0, WORLD, (6, 2))
    world = pusht.to_world(points, poses)
    assert world.shape == (10, 6, 2)
    np.testing.assert_allclose(pusht.to_block(world, poses), np.broadcast_to(points, world.shape), atol=1e-12)


def test_observation_is_the_pusher_and_the_corners():
    state = np.array([0.1, 0.2, 0.3, 0.25, 0.7, 0.11, 0.21])
    obs = PushT.observe(state)
    assert obs.shape == (18,) and np.array_equal(obs[:2], state[:2])
    np.testing.assert_allclose(obs[2:].reshape(8, 2), np.array(placed(state[2:5]).exterior.coords)[:8], atol=1e-12)


def test_the_model_has_the_sizes_of_the_code():
    model = PushT().load_model()
    pusher, bar, stem, target = (model.geom(name) for name in ("pusher", "bar", "stem", "target_bar"))
    assert pusher.size[0] == PUSHER_RADIUS
    for geom, (x0, x1, y0, y1) in zip((bar, stem), RECTANGLES, strict=True):
        np.testing.assert_allclose(geom.pos[:2], [(x0 + x1) / 2, (y0 + y1) / 2], atol=1e-9)
        np.testing.assert_allclose(geom.size[:2], [(x1 - x0) / 2, (y1 - y0) / 2], atol=1e-9)
    np.testing.assert_allclose(model.body("target").pos[:2], TARGET[:2])
    assert np.array_equal(target.size[:2], bar.size[:2])
    assert model.opt.timestep * PushT.substeps == pytest.approx(1 / PushT.control_hz)


# -- rules ------------------------------------------------------------------------------------------------------------
def at(states) -> Simulation:
    """One copy at each of these states (n, 7)."""
    sim = PushT().batch(len(states))
    sim.reset(states)
    return sim


def test_success_is_ninety_percent_of_the_target():
    state = PushT().starts([0, 1])
    low, high = 0.0, 0.02
    while high - low > 1e-9:
        shift = (low + high) / 2
        low, high = (shift, high) if pusht.overlap(beside((shift, 0, 0)))[0] >= SUCCESS else (low, shift)
    state[0, 2:5], state[1, 2:5] = beside((low, 0, 0)), beside((low + 1e-5, 0, 0))
    sim = at(state)
    assert sim.success.tolist() == [True, False]
    assert sim.done.tolist() == [True, False] and sim.length.tolist() == [0, 0]
    assert sim.reward == pytest.approx([1.0, sim.score[1] / SUCCESS])
    stricter = replace(PushT(), success_overlap=0.95).batch(2)
    stricter.reset(state)
    assert not stricter.success.any() and stricter.reward == pytest.approx(sim.score / 0.95)


def test_score_is_the_largest_overlap_and_reward_the_present_one():
    state = PushT().starts([0])
    state[0, 2:5] = beside((0.01, 0, 0.1))
    away = pusht.to_world(np.array([[0.02, -0.12]]), state[0, 2:5])[0]
    state[0, :2] = state[0, 5:] = away
    sim = at(state)
    first = sim.score[0]
    for local in [[0.05, -0.09], [0.05, -0.06], [-0.05, -0.06]]:  # around the end of the stem, then push it aside
        for _ in range(8):
            sim.step(pusht.to_world(np.array([local]), state[0, 2:5]))
    now = pusht.overlap(sim.state[:, 2:5])[0]
    assert now < first - 0.05 and sim.score[0] >= first and not sim.done[0]
    assert sim.reward[0] == pytest.approx(now / SUCCESS, abs=1e-12)


def test_the_pusher_does_not_enter_the_block():
    sim = at(PushT().starts(range(32)))
    deepest = 0.0
    for _ in range(40):
        sim.step(sim.state[:, 2:4])  # straight at the centre of mass
        deepest = max(deepest, (PUSHER_RADIUS - pusht.distance_to_block(sim.state[:, :2], sim.state[:, 2:5])).max())
    assert 0 < deepest < 0.003


def test_starts():
    states = PushT().starts(range(300))
    assert np.array_equal(states[:, :2], states[:, 5:])  # at rest where the command is
    corners = pusht.to_world(OUTLINE, states[:, 2:5])
    assert (corners > 0).all() and (corners < WORLD).all()
    assert (pusht.distance_to_block(states[:, :2], states[:, 2:5]) > 2 * PUSHER_RADIUS).all()
    assert (pusht.overlap(states[:, 2:5]) < 0.5).all()
    quadrant = (states[:, 2:4] > WORLD / 2) @ [1, 2] + 4 * np.digitize(states[:, 4], [-np.pi / 2, 0, np.pi / 2])
    assert (np.bincount(quadrant, minlength=16) > 3).all()  # every place with every orientation


# -- the demonstrator -------------------------------------------------------------------------------------------------
def test_expert_is_about_as_fast_as_people():
    sim = PushT().batch(100)
    actions = [step.decision.label for step in play(sim, PushTExpert(), range(1100, 1200))]
    assert sim.success.mean() >= 0.95, f"failed starts: {1100 + np.flatnonzero(~sim.success)}"
    assert 60 < np.median(sim.length) < 160  # who need 125 steps
    assert np.isfinite(actions).all()


def test_expert_forgets_on_reset():
    used = PushTExpert()
    for seeds in (range(8), range(8, 16)):
        sim, new = at(PushT().starts(seeds)), PushTExpert()
        for expert in (used, new):
            expert.reset(seeds)
        for step in range(25):
            action = used.decide(sim, ~sim.done).action
            if step < 5:
                assert np.array_equal(action, new.decide(sim, ~sim.done).action)
            sim.step(action)
