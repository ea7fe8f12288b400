"""What every task promises: the batched core, and the two Gymnasium environments made of it."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from ilbook.tasks.registration import gym_ids

from ilbook import tasks
from ilbook.errors import UserError
from ilbook.page import sources
from ilbook.tasks.base import Task

# Actions are positions in metres, so that they mean the same on a robot.
NOT_MEANT = "we recommend using a symmetric and normalized space"


@pytest.fixture(params=tasks.names())
def task_type(request) -> type[Task]:
    return tasks.get(request.param)


def wander(task_type, n_steps: int, n_copies: int, seed: int = 0) -> np.ndarray:
    """Actions (T, N, A) that aim at one random place after the other, for ten steps each."""
    rng = np.random.default_rng(seed)
    size = (-(-n_steps // 10), n_copies, len(task_type.action_low))
    return np.repeat(rng.uniform(task_type.action_low, task_type.action_high, size), 10, axis=0)[:n_steps]


def play(task: Task, actions: np.ndarray, start_seeds) -> np.ndarray:
    """Everything that happens, as numbers (T + 1, N, ...)."""
    task.reset(task.starts(start_seeds))
    seen = [look(task)]
    for action in actions:
        task.step(action)
        seen.append(look(task))
    return np.stack(seen)


def look(task: Task) -> np.ndarray:
    flags = np.stack([task.success, task.failure, task.done, task.length, task.score, task.reward], axis=1)
    extra = np.stack([np.zeros(task.n_copies), *(column.astype(float) for column in task.info().values())], axis=1)
    return np.concatenate([task.obs, task.state, task.physics, flags, extra], axis=1)


# -- names ------------------------------------------------------------------------------------------------------------
def test_tasks_are_found_and_described():
    assert {"avoid", "insert", "lift", "pickplace", "pusht"} <= set(tasks.names())
    rows = tasks.describe()
    assert [row["name"] for row in rows] == tasks.names()
    for row in rows:
        assert set(row) == {"name", "gym_id", "obs", "action", "hz", "max_steps", "summary", "perturbations"}
        assert row["summary"].endswith(".") and row["gym_id"] == gym_ids()[row["name"]]


def test_an_unknown_task_gives_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown task 'push'; nearest valid name: 'pusht'"):
        tasks.get("push")


def test_results_of_one_task_do_not_depend_on_the_others(task_type):
    """Else a new task would make every stored result stale."""
    reached = sources.reachable(f"from {task_type.__module__} import {task_type.__name__}")
    assert {f"ilbook.tasks.{name}" for name in tasks.names()} & reached == {task_type.__module__}


# -- distribution shift -----------------------------------------------------------------------------------------------
SEEN_ONLY = {"camera", "colours", "distractors"}
STILL = {"mass", "friction", "size", "hole"}  # of what a random motion need not touch; the tests of a task look closer


def test_every_task_can_be_shifted(task_type):
    expected = {"mass", "size", "camera", "colours", "distractors", "lag", "push"}
    assert expected <= set(task_type.perturbations)
    assert all(effect.strip() for effect in task_type.perturbations.values())


def test_each_perturbation_changes_what_it_should(task_type):
    """The pictures and nothing else, or what happens; whatever is pushed, dragged or heavier then moves otherwise."""
    actions, seeds = wander(task_type, 60, 6), range(6)
    nominal = play(task_type(6), actions, seeds)
    frame = task_type(1).render(task_type(1).starts([2]), 64)
    for name in task_type.perturbations:
        shifted = task_type.perturbed(**{name: 1.0})
        happens = play(shifted(6), actions, seeds)
        seen = shifted(1).render(task_type(1).starts([2]), 64)
        assert np.isfinite(happens).all(), name
        if name in SEEN_ONLY:
            assert np.array_equal(happens, nominal), name
            assert np.abs(seen.astype(int) - frame).mean() > 0.3, name
        elif name not in STILL:
            assert not np.array_equal(happens, nominal), name


def test_a_shifted_task_is_one_type(task_type):
    shifted = task_type.perturbed(lag=1.0)
    assert task_type.perturbed(lag=1.0) is shifted and issubclass(shifted, task_type)
    assert shifted.perturbed(mass=0.5) is task_type.perturbed(mass=0.5, lag=1.0)
    assert shifted.perturbed(lag=0.0) is task_type and shifted.strengths == {"lag": 1.0}


def test_wrong_perturbations_are_refused(task_type):
    with pytest.raises(UserError, match=rf"unknown perturbation of {task_type.name} 'las'; nearest valid name"):
        task_type.perturbed(las=1.0)
    with pytest.raises(UserError, match=r"perturbation mass has the strength 3.*choose -1 to 2"):
        task_type.perturbed(mass=3)
    with pytest.raises(UserError, match=r"perturbation lag has the strength -1.*choose 0 to 2"):
        task_type.perturbed(lag=-1)


def test_a_push_follows_from_the_start(task_type):
    """All policies meet the same push, whatever else is in the batch."""
    pushed, actions = task_type.perturbed(push=1.0), wander(task_type, 60, 5)
    batch = play(pushed(5), actions, range(5))
    for i in range(5):
        assert np.array_equal(batch[:, i : i + 1], play(pushed(1), actions[:, i : i + 1], [i]))


# -- the batched core -------------------------------------------------------------------------------------------------
def test_shapes_and_types(task_type):
    task = task_type(3)
    n_obs, n_state = len(task.obs_names), len(task.state_names)
    obs = task.reset(task.starts([4, 5, 6]))
    for seen in (obs, task.step(wander(task_type, 1, 3)[0])):
        assert seen.shape == (3, n_obs) and seen.dtype == np.float64
    assert task.state.shape == (3, n_state) and np.isfinite(task.state).all()
    assert task.action_low.shape == task.action_high.shape == (task.nu,)
    for flag in (task.success, task.failure, task.done):
        assert flag.shape == (3,) and flag.dtype == bool
    assert task.length.tolist() == [1, 1, 1]
    assert task.score.shape == task.reward.shape == (3,)
    assert all(column.shape == (3,) for column in task.info().values())


def test_same_seed_same_numbers(task_type):
    actions = wander(task_type, 40, 4)
    assert np.array_equal(play(task_type(4), actions, range(4)), play(task_type(4), actions, range(4)))


def test_a_used_task_is_as_good_as_a_new_one(task_type):
    actions = wander(task_type, 40, 4)
    used = task_type(4)
    play(used, wander(task_type, 30, 4, seed=1), [8, 9, 10, 11])
    assert np.array_equal(play(used, actions, range(4)), play(task_type(4), actions, range(4)))


def test_a_batch_equals_single_copies(task_type):
    actions = wander(task_type, 60, 5)
    batch = play(task_type(5), actions, range(5))
    for i in range(5):
        assert np.array_equal(batch[:, i : i + 1], play(task_type(1), actions[:, i : i + 1], [i]))


def test_threads_do_not_change_numbers(task_type):
    actions = wander(task_type, 40, 7)
    one, three = (play(task_type(7, threads), actions, range(7)) for threads in (1, 3))
    assert np.array_equal(one, three)


def test_what_is_only_looked_at_changes_nothing(task_type):
    """The physics leaves out geoms that nothing touches, cameras and lights, and runs without a clock."""

    class Whole(task_type):
        physics_model = classmethod(lambda cls: cls.load_model())

    seeds, actions = [2, 7, 9], wander(task_type, 30, 3)
    task, whole = task_type(3), Whole(3)
    assert task.model.ngeom < whole.model.ngeom and not task.model.ncam and not task.model.nlight
    assert np.array_equal(play(task, actions, seeds), play(whole, actions, seeds))
    assert all(timer.duration == 0 for timer in task._data[0].timer)


def test_a_finished_copy_is_frozen(task_type):
    task = task_type(3)
    task.reset(task.starts(range(3)))
    actions = wander(task_type, 12, 3)
    task.step(np.where(np.arange(3)[:, None] == 1, np.nan, actions[0]))
    before = look(task)
    assert task.done.tolist() == [False, True, False]
    for action in actions:
        task.step(action)
    assert np.array_equal(look(task)[1], before[1])
    assert task.length.tolist() == [13, 0, 13]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_fails_only_its_copy(task_type, bad):
    actions = wander(task_type, 20, 3)
    spoilt = actions.copy()
    spoilt[5, 1, 0] = bad
    good, hurt = (play(task_type(3), these, range(3)) for these in (actions, spoilt))
    assert np.array_equal(good[:, [0, 2]], hurt[:, [0, 2]])
    assert np.array_equal(good[:6, 1], hurt[:6, 1])
    task = task_type(3)
    play(task, spoilt, range(3))
    assert task.failure[1] and not task.success[1] and task.length[1] == 5


def test_the_command_keeps_the_speed_limit(task_type):
    task = task_type(6)
    task.reset(task.starts(range(6)))
    reach = task.max_speed / task.control_hz
    for action in wander(task_type, 50, 6):
        running, before, action = ~task.done, task.command.copy(), action + 0.3 * (action - action.mean(axis=0))
        task.step(action)
        goal = np.clip(action, task.action_low, task.action_high)
        far = np.linalg.norm((goal - before) * task.weight, axis=1, keepdims=True)
        expected = before + (goal - before) * np.minimum(
            1, reach / np.maximum(far, 1e-9)
        )  # straight to the goal, as far as allowed
        np.testing.assert_allclose(task.command[running], expected[running], atol=1e-12)
        assert (task.command >= task.action_low).all() and (task.command <= task.action_high).all()


def test_what_is_left_alone_stays(task_type):
    if task_type.load_model().opt.gravity.any():
        pytest.skip("under gravity an arm settles into its servos")
    task = task_type(6)
    start = task.starts(range(6))
    task.reset(start)
    for _ in range(20):
        task.step(start[:, -task.nu :])
    np.testing.assert_allclose(task.state, start, atol=1e-9)


def test_states_survive_a_reset(task_type):
    task = task_type(4)
    task.reset(task.starts(range(4)))
    for action in wander(task_type, 25, 4):
        task.step(action)
    state, obs = task.state, task.obs
    other = task_type(4)
    assert np.array_equal(other.reset(state), obs)
    assert np.array_equal(other.state, state)
    assert np.array_equal(task_type.observe(state), obs)


def test_reset_of_some_copies_leaves_the_others_alone(task_type):
    task, actions, index = task_type(5), wander(task_type, 30, 5), np.array([3, 1])
    play(task, actions[:15], range(5))
    before, alone = look(task), play(task_type(2), actions[15:, index], [21, 20])
    task.reset(task.starts([21, 20]), index)
    assert np.array_equal(look(task)[[0, 2, 4]], before[[0, 2, 4]])
    for k, action in enumerate(actions[15:]):
        assert np.array_equal(look(task)[index], alone[k])
        task.step(action)
    whole = play(task_type(5), actions, range(5))
    assert np.array_equal(look(task)[[0, 2, 4]], whole[-1, [0, 2, 4]])


def test_reset_to_the_same_place_judges_anew(task_type):
    task = task_type(2)
    start = task.starts([3, 7])
    task.reset(start)
    fresh = look(task)
    task.reset(start[1:], np.array([1]))
    assert np.array_equal(look(task), fresh)


def test_starts_depend_on_their_own_seed_only(task_type):
    task = task_type(1)
    many = task.starts(range(20))
    assert np.array_equal(many[[5, 3]], task.starts([5, 3]))
    assert len(np.unique(many, axis=0)) == 20
    task.reset(many[:1])
    assert not task.done.any()


def test_what_is_seen_stays_in_bounds(task_type):
    task = task_type(16)
    task.reset(task.starts(range(16)))
    for action in wander(task_type, 80, 16):
        obs = task.step(action)
        assert (np.abs(obs) < task.obs_limit).all()
        for value in (task.score, task.reward):
            assert ((value >= 0) & (value <= 1)).all()


def test_an_episode_ends_at_max_steps(task_type):
    task = task_type(1)
    task.reset(task.starts([0]))
    stay = task.command.copy()
    for _ in range(task.max_steps):
        assert not task.done[0]
        task.step(stay)
    task.step(np.full_like(stay, np.nan))  # too late to fail
    assert task.length[0] == task.max_steps and task.done[0]
    assert not task.success[0] and not task.failure[0]


def test_wrong_shapes_are_refused(task_type):
    with pytest.raises(UserError, match="at least one copy"):
        task_type(0)
    task = task_type(2)
    with pytest.raises(UserError, match=r"states of shape \(1, .*2 copies need"):
        task.reset(task.starts([0]))
    with pytest.raises(UserError, match=rf"actions of shape \({task.nu},\), not \(2, {task.nu}\)"):
        task.step(np.zeros(task.nu))


# -- Gymnasium --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("obs_type", ["state", "pixels"])
def test_gymnasium_finds_nothing_to_complain_about(task_type, obs_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=f"(?s).*{NOT_MEANT}")
        env = gymnasium.make(task_type.gym_id, obs_type=obs_type)
        check_env(env.unwrapped)
    assert env.metadata["render_fps"] == round(task_type.control_hz)


def test_env_gives_the_numbers_of_the_task(task_type):
    env, task, actions = gymnasium.make(task_type.gym_id), task_type(1), wander(task_type, 30, 1)
    obs, info = env.reset(options={"start_seed": 12})
    assert np.array_equal(obs, task.reset(task.starts([12]))[0])
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action[0])
        assert np.array_equal(obs, task.step(action)[0])
        assert (reward, terminated, truncated) == (task.reward[0], task.success[0] or task.failure[0], False)
        assert (info["success"], info["score"]) == (task.success[0], task.score[0])
        assert set(info) == {"success", "score", *task.info()}
        if terminated:
            break


def test_env_ends_are_told_apart(task_type):
    env = gymnasium.make(task_type.gym_id)
    env.reset(seed=0)
    *_, terminated, truncated, _ = env.step(np.full_like(task_type.action_low, np.nan))
    assert terminated and not truncated
    env.reset(seed=0)
    stay = env.unwrapped.task.command[0].copy()
    ends = [env.step(stay)[2:4] for _ in range(task_type.max_steps)]
    assert ends[:-1] == [(False, False)] * (task_type.max_steps - 1) and ends[-1] == (False, True)


def test_env_seeds(task_type):
    env = gymnasium.make(task_type.gym_id)
    first, _ = env.reset(seed=5)
    second, _ = env.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(env.reset(seed=5)[0], first) and np.array_equal(env.reset()[0], second)


def test_vector_env_equals_single_envs(task_type):
    """Seeds, numbers, infos, ends and resets are those of gymnasium's own vectorisation."""
    fast = gymnasium.make_vec(task_type.gym_id, num_envs=4)
    slow = gymnasium.make_vec(task_type.gym_id, num_envs=4, vectorization_mode="sync")
    assert fast.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
    for space in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(fast, space) == getattr(slow, space)
    actions = wander(task_type, 60, 4).astype(np.float32)
    actions[[10, 25, 26, 40], [0, 2, 2, 0]] = np.nan  # the second in a row meets a copy that is being reset
    resets = [{"seed": 9}, {"seed": [3, None, 1, 0]}, {"options": {"start_seed": 3}}]
    ended = np.zeros(4, dtype=int)
    for reset, part in zip(resets, np.split(actions, 3), strict=True):
        pairs = [(fast.reset(**reset), slow.reset(**reset))] + [(fast.step(a), slow.step(a)) for a in part]
        for ours, theirs in pairs:
            assert set(ours[-1]) == set(theirs[-1])
            infos = ((ours[-1][name], theirs[-1][name]) for name in ours[-1])
            for a, b in [*zip(ours[:-1], theirs[:-1], strict=True), *infos]:
                assert np.array_equal(a, b) and a.shape == b.shape and a.dtype == b.dtype
        ended += sum(step[2] for step, _ in pairs[1:])
    assert ended[0] >= 2 and ended[2] >= 1


def test_vector_env_gives_new_arrays_at_every_step(task_type):
    env = gymnasium.make_vec(task_type.gym_id, num_envs=2)
    obs, infos = env.reset(seed=0)
    earlier = [obs, *infos.values()]
    for action in wander(task_type, 5, 2):
        obs, *judged, infos = env.step(action)
        now = [obs, *judged, *infos.values()]
        assert not any(np.shares_memory(a, b) for a in now for b in earlier)
        earlier += now


def test_vector_env_resets_the_masked_copies(task_type):
    env = gymnasium.make_vec(task_type.gym_id, num_envs=3)
    first, _ = env.reset(seed=0)
    moved = env.step(wander(task_type, 1, 3)[0])[0]
    obs, _ = env.reset(options={"reset_mask": np.array([False, True, False]), "start_seed": [0, 8, 0]})
    assert np.array_equal(obs[[0, 2]], moved[[0, 2]]) and not np.array_equal(moved, first)
    assert np.array_equal(obs[1], task_type.observe(env.task.starts([8])[0]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start_sed": 1}, "unknown reset option 'start_sed'; nearest valid name: 'start_seed'"),
        ({"start_seed": 1.5}, "start_seed is 1.5; give a whole number"),
        ({"start_seed": -1}, "start_seed is -1; give a whole number"),
        ({"start_seed": [1, 2]}, r"start_seed is \[1, 2\]; .*3 of them"),
        ({"reset_mask": np.zeros(3, dtype=bool)}, "reset_mask must be 3 booleans"),
        ({"reset_mask": np.ones(2, dtype=bool)}, "reset_mask must be 3 booleans"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    env = gymnasium.make_vec("ilbook/PushT-v0", num_envs=3)
    with pytest.raises(UserError, match=sentence):
        env.reset(options=options)


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match="unknown obs_type 'pixel'; nearest valid name: 'pixels'"):
        gymnasium.make("ilbook/PushT-v0", obs_type="pixel")
    with pytest.raises(UserError, match="2 seeds for 3 copies"):
        gymnasium.make_vec("ilbook/PushT-v0", num_envs=3).reset(seed=[1, 2])


def test_pixels_and_pictures(task_type):
    env = gymnasium.make(task_type.gym_id, obs_type="pixels", render_mode="rgb_array")
    vector = gymnasium.make_vec(task_type.gym_id, num_envs=2, obs_type="pixels", render_mode="rgb_array")
    one, many = env.reset(options={"start_seed": 1})[0], vector.reset(options={"start_seed": [0, 1]})[0]
    assert one.shape == (96, 96, 3) and one.dtype == np.uint8 and one.std() > 0
    assert many.shape == (2, 96, 96, 3) and np.array_equal(many[1], one)
    assert not np.array_equal(many[0], many[1])
    assert env.render().shape == (480, 480, 3)
    assert len(vector.render()) == 2 and np.array_equal(vector.render()[1], env.render())
    assert vector.observation_space.contains(many)


@pytest.mark.parametrize(
    "first",
    [
        "import ilbook, gymnasium; name = ''",
        "import gymnasium, ilbook; name = ''",
        "import ilbook.tasks, gymnasium.envs.registration; name = ''",
        "import gymnasium; name = 'ilbook:'",
    ],
)
def test_ids_are_there_in_any_order_of_imports(first):
    code = f"""{first}
import gymnasium, sys
assert "mujoco" not in sys.modules
assert gymnasium.make(name + "ilbook/PushT-v0").unwrapped.task.name == "pusht"
assert "ilbook/Avoid-v0" in gymnasium.registry
assert [f for f in sys.meta_path if type(f).__module__.startswith("ilbook")] == []
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)


def test_importing_ilbook_imports_nothing_heavy():
    code = """import importlib.util, sys, ilbook, ilbook.tasks
assert ilbook.tasks.names()
found = importlib.util.find_spec("gymnasium")  # looking is not importing
assert found.name == "gymnasium"
heavy = {"gymnasium", "mujoco", "numpy", "torch", "pandas"} & set(sys.modules)
assert not heavy, heavy
import gymnasium
assert "ilbook/PushT-v0" in gymnasium.registry and "mujoco" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
