"""What the tasks do: each one, nominal and shifted, is led through a short scene of its own in which things touch.

Scenes are way points made from the start alone, by no expert: what a hand does must not move the trace of a task. They
are short, because contact doubles small differences. Of what pictures show, the trace has the model, not the pixels.
"""

from dataclasses import fields, replace
from functools import partial

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from ilbook import tasks
from ilbook.tasks import arm, insert, pusht
from ilbook.tasks.avoid import Avoid
from ilbook.tasks.base import Task
from ilbook.tasks.gym import TaskEnv
from ilbook.tasks.limit import limit
from tests.golden.registry import trace

STEPS = 30  # control steps
SHOWN = (0, 8, 19, 30)  # steps after which the trace shows what happened
LOOKS = (
    "geom_type", "geom_size", "geom_pos", "geom_quat", "geom_rgba", "geom_group", "geom_matid", "mat_rgba", "body_pos",
    "body_quat", "cam_pos", "cam_quat", "cam_fovy", "light_pos", "light_dir", "light_diffuse",
)  # fmt: skip


# -- scenes: where three copies begin, changed in their states (3, S), and way points (P, 3, A) ----------------------
def wander(task: Task, states: np.ndarray) -> np.ndarray:
    """What a task does that has no scene of its own."""
    size = (4, len(states), len(task.action_low))
    return np.random.default_rng(0).uniform(task.action_low, task.action_high, size)


def push_the_block(task: Task, states: np.ndarray) -> np.ndarray:
    """Up at the bar and aside, against the end of the stem, and the last one from below, onto the target."""
    states[2, 2:5] = [*pusht.to_world(np.array([[0.001, -0.015]]), pusht.TARGET)[0], pusht.TARGET[2] + 0.02]
    points = [[(0.04, -0.03), (0.045, 0.06), (0.08, 0.06)], [(-0.05, -0.07), (0.02, -0.06), (0.02, -0.02)],
              [(0.002, -0.11), (0.0, -0.083), (0.0, -0.079)]]  # fmt: skip
    way = np.stack([pusht.to_world(np.array(p), pose) for p, pose in zip(points, states[:, 2:5], strict=True)], axis=1)
    states[:, :2] = states[:, 5:] = way[0]
    return way


def past_the_obstacles(task: Task, states: np.ndarray) -> np.ndarray:
    """Past the last row to the goal, into an obstacle, and round the first one against the wall of the box."""
    way = np.array([[(0.42, 0.2), (0.43, 0.36)], [(0.5, 0.0), (0.43, 0.1)], [(0.44, -0.2), (0.1, 0.1)]])
    states[:, :2] = states[:, 2:] = way[:, 0]
    return way.swapaxes(0, 1)


def into_the_hole(task: Task, states: np.ndarray) -> np.ndarray:
    """Straight in, onto the rim and aside, and in as far as a leaning peg goes."""
    tips = np.array([[(0, 0.006, 0), (0, -0.034, 0)], [(0.002, 0.004, 0), (0.006, -0.006, 0.1)],
                     [(0, 0.0028, 0.02), (0.001, -0.03, 0.12)]])  # fmt: skip
    way = insert.to_hand(tips.swapaxes(0, 1), states[:, 3:6])
    states[:, :3] = states[:, 6:] = way[0]
    return way


def at_the_cube(states: np.ndarray, offset: tuple[float, ...], width: float) -> np.ndarray:
    """Joints (3, 6) of grasps that lie `offset` from the cubes, in the frame of the jaws, opened by `width`."""
    cube = states[:, 6:9]
    cos, sin = arm.fourfold(states[:, 9:13])
    yaw = np.arctan2(sin, cos) / 4
    along, across = np.column_stack([-np.sin(yaw), np.cos(yaw)]), np.column_stack([np.cos(yaw), np.sin(yaw)])
    place = cube + np.array([0, 0, offset[2]])
    place[:, :2] += offset[0] * across + offset[1] * along
    pitch = arm.natural_pitch(place[:, 2])
    roll = yaw + arm.solve_ik(place, pitch, np.zeros(len(place)))[0][:, 0] + arm.TILT
    roll -= np.round(roll / (np.pi / 2)) * np.pi / 2
    return np.column_stack([arm.solve_ik(place, pitch, roll)[0], np.full(len(cube), width)])


def lift_the_cube(task: Task, states: np.ndarray) -> np.ndarray:
    """Grasp it and hold it up; raise it by little; shove it with closed jaws."""
    open_, shut, up = (at_the_cube(states, place, width) for place, width in
                       (((-0.006, 0, 0.002), 0.5), ((-0.006, 0, 0.002), 0.0), ((-0.006, 0, 0.075), 0.0)))  # fmt: skip
    way = np.stack([open_, shut, shut, up, up, up, up])
    way[3:, 1] = 0.5 * (shut + up)[1]
    shove = [at_the_cube(states, (0.0, y, 0.0), 0.0)[2] for y in (-0.05, -0.05, -0.03, -0.02, 0.0, 0.02, 0.02)]
    way[:, 2] = shove
    states[:, :6] = states[:, -6:] = way[0]
    return way


def place_the_cube(task: Task, states: np.ndarray) -> np.ndarray:
    """As `lift_the_cube`, but the first one carries it to its target and lets go."""
    way = lift_the_cube(task, states)
    states[:, 13:15] = states[:, 6:8] + [0.0, 0.04]
    there = states.copy()
    there[:, 6:8] = states[:, 13:15]
    over, down, off = (
        at_the_cube(there, (-0.006, 0, z), width)[0] for z, width in ((0.03, 0.0), (0.002, 0.0), (0.002, 0.5))
    )
    way[2:, 0] = [way[3, 1], over, down, off, off]
    return way


SCENES = {
    "avoid": past_the_obstacles,
    "insert": into_the_hole,
    "lift": lift_the_cube,
    "pickplace": place_the_cube,
    "pusht": push_the_block,
}


# -- traces of the tasks ----------------------------------------------------------------------------------------------
def looks(task: Task) -> dict:
    """What pictures are drawn from: a number for each array of the model, and all of the camera and the headlight."""
    model = task.load_model()
    arrays = {name: np.asarray(getattr(model, name), dtype=float).ravel() for name in LOOKS}
    weights = {name: 1 + np.arange(len(array)) * 0.618034 % 1 for name, array in arrays.items()}
    camera, light = model.camera(task.camera), model.vis.headlight
    return {
        "looks": [array @ weights[name] for name, array in arrays.items()],
        "camera": [*camera.pos, *camera.quat, *camera.fovy, model.stat.extent, *model.stat.center],
        "headlight": [*light.ambient, *light.diffuse, *light.specular],
    }


def happens(name: str, **shift: float) -> dict:
    """What three copies do in the scene of a task, and what is seen, judged and drawn of it."""
    kind = tasks.get(name)
    task = eval(repr(kind().shifted(**shift)), {kind.__name__: kind})  # what it says of itself makes it again
    short = replace(task, max_steps=STEPS + 10)  # a push comes early
    sim, states = short.batch(3, threads=1), short.starts([0, 1, (2, 3)])
    starts = states.copy()
    way = SCENES.get(name, wander)(short, states)
    sim.reset(states.round(6) + 0.0)  # pushes depend on every bit of it, and the last ones on the processor
    place, judged = [], []
    for step in range(STEPS + 1):
        if step in SHOWN:
            place.append(sim.state)
            flags = [sim.success, sim.failure, sim.length, sim.score, sim.reward, *sim.info().values()]
            judged.append(np.stack(flags).astype(float))
        if step == SHOWN[1]:  # a detour that is taken back
            kept = sim.save()
            sim.step(way[0])
            sim.restore(kept)
        at = min(step + 1, STEPS) / STEPS * (len(way) - 1)
        before = min(int(at), len(way) - 2)
        sim.step(way[before] + (at - before) * (way[before + 1] - way[before]))
    rare = replace(task.shifted(push=1.0), push_chance=0.5)
    settings = [float(getattr(task, field.name)) for field in fields(task) if field.name != "shift"]
    box = [*task.action_low, *task.action_high, *np.ravel(task.weight)]
    sizes = [task.control_hz, len(task.obs_names), len(task.action_low), task.max_speed, task.obs_limit]
    return {
        "settings": [*settings, *sizes, *box],
        "starts": starts,
        "states": np.stack(place),  # (4, 3, S)
        "judged": np.stack(judged),  # (4, flags, 3)
        **sim.see(["obs", "goal"]),
        "pushes": [rare.draw_push(state, sim.model)[0] for state in starts.round(6) + 0.0],
        **looks(task),
    }


for task in tasks.names():
    trace(f"tasks.{task}", tolerance=1e-6)(partial(happens, task))
    for shift in tasks.find(task).perturbations:
        trace(f"tasks.{task}:{shift}", tolerance=1e-6)(partial(happens, task, **{shift: 1.0}))


# -- what stands around them ------------------------------------------------------------------------------------------
@trace("tasks.limit")
def limits():
    low, high, weight = np.array([-1.0, 0.0, 0.2]), np.array([1.0, 0.5, 0.3]), np.array([1.0, 0.5, 2.0])
    targets = np.array([[0.1, 0.2, 0.3], [3.0, -1.0, 0.0], [0.0, 0.1, 0.25], [-0.4, 0.4, 0.21]])
    command = np.tile([0.0, 0.1, 0.25], (4, 1))
    return {f"reach {reach:g}": limit(targets, command, low, high, reach, weight) for reach in (0.05, 0.3, 9.0)}


@trace("tasks.gym", tolerance=1e-6)
def environments():
    """Episodes that end, are cut off, and begin anew, in a task of which nothing but the adapter is to be seen."""
    task = replace(Avoid(), max_steps=4)
    env = gymnasium.make(Avoid.gym_id, task={"max_steps": 4}, disable_env_checker=True)
    many, pixels = SyncVectorEnv([lambda: TaskEnv(task)] * 3), TaskEnv(task, "pixels")
    seen = [env.reset(seed=1)[0], env.reset()[0], env.reset(options={"start_seed": 5})[0]]
    target, broken = np.array([0.4, 0.0]), np.array([np.nan, 0.0])
    steps = [env.step(action) for action in (target, target, broken)]
    twins = ("is_success", "_is_success")  # another name of success
    rows, own = [many.reset(seed=4)[0]], zip(many.envs, (7, None, 9), range(3), strict=True)
    rows.append(np.stack([one.reset(seed=seed, options={"start_seed": k})[0] for one, seed, k in own]))
    judged = []
    for k in range(7):
        obs, *flags, info = many.step(np.stack([target, target, broken if k == 1 else target]))
        rows.append(obs)
        names = [name for name in info if name not in twins]
        names.sort(key=lambda name: name.startswith("_"))  # then the masks of who has it
        judged.append(np.stack([*flags, *(info[name] for name in names)]).astype(float))
    rows.append(many.reset(options={"reset_mask": np.array([True, False, False])})[0])
    spaces = (env.observation_space, env.action_space, pixels.observation_space, many.observation_space)
    return {
        "one": [*seen, *(step[0] for step in steps)],
        "one judged": [[*step[1:4], *(step[4][name] for name in step[4] if name not in twins)] for step in steps],
        "many": np.stack(rows),
        "many judged": np.stack(judged),
        "spaces": [float(space.low.sum() + space.high.sum()) for space in spaces],
        "sizes": [len(space.shape) for space in spaces],
    }
