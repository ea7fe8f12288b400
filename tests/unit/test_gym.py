"""What other people's libraries ask of an environment, each asked by the library itself."""

import os
import pickle
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
import torch.utils._pytree
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from stable_baselines3 import SAC
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from ilbook import tasks
from ilbook.errors import UserError
from ilbook.tasks.avoid import MODE_NAMES, Avoid
from ilbook.tasks.gym import OBS_TYPES, TaskEnv
from ilbook.tasks.lift import Lift
from ilbook.tasks.pusht import PushT

ROOT = Path(__file__).resolve().parents[2]
TASKS = [tasks.get(name) for name in tasks.names()]
PUSHT = f"ilbook.tasks.gym:{PushT.gym_id}"
BROKEN = np.full(2, np.nan)
LAG = {"shift": {"lag": 1.0}}


def steps(env) -> tuple[int, bool, bool]:
    """How many steps an episode has in which nothing moves, and how it ends; 0 if it does not end within 1200."""
    env.reset(seed=0)
    stay = env.unwrapped.sim.command[0].copy()
    for k in range(1200):
        *_, terminated, truncated, _ = env.step(stay)
        if terminated or truncated:
            return k + 1, terminated, truncated
    return 0, False, False


# -- how long episodes are --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", TASKS)
def test_a_spec_says_how_long_episodes_are(kind):
    assert gymnasium.spec(kind.gym_id).max_episode_steps == kind.max_steps
    env = gymnasium.make(kind.gym_id)
    assert env.spec.max_episode_steps == kind.max_steps == env.get_wrapper_attr("_max_episode_steps")
    assert f"max_episode_steps={kind.max_steps}" in env.spec.pprint(disable_print=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 300),
        ({"max_episode_steps": 20}, 20),
        ({"max_episode_steps": 1000}, 1000),
        ({"max_episode_steps": -1}, 0),
        ({"task": PushT(max_steps=20)}, 20),
        ({"task": {"max_steps": 20}, "max_episode_steps": 1000}, 20),
        ({"task": PushT(shift={"lag": 1.0}), "max_episode_steps": 400}, 400),
        ({"task": LAG}, 300),
    ],
    ids=str,
)
def test_episodes_end_where_gymnasium_is_told(given, expected):
    found = steps(gymnasium.make(PushT.gym_id, **given))
    assert found == (expected, False, expected > 0)
    if expected:
        many = gymnasium.make_vec(PushT.gym_id, num_envs=2, **given)
        assert steps(many.envs[1]) == found


def test_a_task_of_ones_own_is_its_kind():
    class Mine(PushT):
        max_speed = 0.1

    env = gymnasium.make(PushT.gym_id, task=Mine(), max_episode_steps=310)
    assert env.unwrapped.task_description == TaskEnv("pusht").task_description and steps(env)[0] == 310


def test_made_directly_an_environment_ends_its_episodes_itself():
    assert [steps(TaskEnv(one)) for one in ("pusht", PushT(max_steps=7))] == [(300, False, True), (7, False, True)]
    assert steps(wrappers.TimeLimit(TaskEnv("pusht"), 12)) == (12, False, True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"task": PushT(max_steps=600)}, "episodes of max_steps=600 after 300 steps; .*give .* max_episode_steps=600"),
        ({"task": {"max_steps": 301}}, "episodes of max_steps=301 after 300 steps; .*give .* max_episode_steps=301"),
        ({"task": Lift()}, "ilbook/PushT-v0 makes no lift; make ilbook/Lift-v0"),
        ({"task": "lift"}, "ilbook/PushT-v0 makes no lift; make ilbook/Lift-v0"),
        ({"task": {"shift": {"las": 1.0}}}, "unknown perturbation of pusht 'las'; nearest"),
        ({"task": {"shfit": {"lag": 1.0}}}, "unknown value of pusht 'shfit'; nearest valid name: 'shift'"),
        ({"task": PushT}, "task is .*PushT.*; give its name, its values, or a task such as PushT"),
        ({"task": None}, "task is None; give its name"),
        ({"render_mode": "rgb"}, "unknown render_mode 'rgb'; nearest valid name: 'rgb_array'"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*render_mode='rgb'")
def test_what_would_be_cut_or_mixed_up_is_refused(given, sentence):
    with pytest.raises(UserError, match=sentence):
        gymnasium.make(PushT.gym_id, **given)


# -- Gymnasium's wrappers ---------------------------------------------------------------------------------------------
def test_no_wrapper_of_gymnasium_complains():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="(?s).*symmetric and normalized space")
        for obs_type in OBS_TYPES:
            env = gymnasium.make(PushT.gym_id, obs_type=obs_type, render_mode="rgb_array", max_episode_steps=5)
            env = wrappers.RecordEpisodeStatistics(wrappers.FlattenObservation(env))
            for episode in range(2):
                obs, info = env.reset(seed=episode)
                assert obs in env.observation_space and env.unwrapped.np_random_seed == episode
                ended = False
                while not ended:
                    obs, _, terminated, truncated, info = env.step(env.action_space.sample())
                    ended = terminated or truncated
                assert obs in env.observation_space and info["episode"]["l"] == 5 and not info["is_success"]
            env.close()
            env.close()


@pytest.mark.parametrize("settings", [{}, {"normalize_time": True}, {"flatten": False}], ids=str)
@pytest.mark.parametrize("kind", TASKS)
def test_time_can_be_seen(kind, settings):
    env = wrappers.TimeAwareObservation(gymnasium.make(kind.gym_id), **settings)
    env.reset(seed=0)
    obs = [env.step(env.action_space.sample())[0] for _ in range(3)][-1]
    assert obs in env.observation_space
    assert float(np.squeeze(obs["time"] if isinstance(obs, dict) else obs[-1])) == pytest.approx(
        3 / kind.max_steps if settings.get("normalize_time") else 3
    )


def test_pictures_become_films(tmp_path, monkeypatch):
    """Gymnasium hands moviepy its frames; here that package only looks at them."""
    filmed = []

    class ImageSequenceClip:
        def __init__(self, frames, fps):
            filmed.append((np.shape(frames), fps))

        def write_videofile(self, path, logger):
            Path(path).touch()

    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[name].ImageSequenceClip = ImageSequenceClip
    env = gymnasium.make(Avoid.gym_id, render_mode="rgb_array", max_episode_steps=2)
    env = wrappers.RecordVideo(env, str(tmp_path / "films"), episode_trigger=lambda k: True)
    assert steps(env)[0] == 2
    env.close()
    assert filmed == [((3, 480, 480, 3), 25)]
    frames = gymnasium.make(Avoid.gym_id, render_mode="rgb_array_list", max_episode_steps=2)
    assert steps(frames)[0] == 2 and np.shape(frames.render()) == (3, 480, 480, 3)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED], ids=str
)
def test_gymnasium_vectors_begin_anew_in_every_way(mode, autoreset):
    many = gymnasium.make_vec(
        PushT.gym_id, 2, mode, {"autoreset_mode": autoreset}, max_episode_steps=3, task=LAG, render_mode="rgb_array"
    )
    many = wrappers.vector.RecordEpisodeStatistics(many)
    many.reset(seed=[0, 1])
    action = many.action_space.sample()
    for _ in range(3):
        obs, _, terminated, truncated, info = many.step(action)
    assert truncated.all() and not terminated.any() and info["episode"]["l"].tolist() == [3, 3]
    last = info["final_info"] if autoreset is AutoresetMode.SAME_STEP else info
    assert last["is_success"].tolist() == last["success"].tolist() == [False, False]
    if autoreset is AutoresetMode.DISABLED:
        obs, _ = many.reset(options={"reset_mask": truncated, "start_seed": 4})
        assert np.array_equal(obs, np.tile(PushT().observe(PushT().starts([4])), (2, 1)))
    many = many.unwrapped  # what LeRobot asks before, during and after a rollout
    assert set(many.call("task_description")) == {PushT.__doc__.partition("\n")[0]} and many.get_attr("task")
    assert many.call("_max_episode_steps") == (3, 3) and many.metadata["render_fps"] == 10
    assert np.shape(many.call("render")) == (2, 480, 480, 3)
    many.close()


@pytest.mark.parametrize("obs_type", ["pixels_agent_pos", "environment_state_agent_pos"])
@pytest.mark.parametrize("kind", TASKS)
def test_observations_have_the_names_of_lerobot(kind, obs_type):
    env = gymnasium.make(kind.gym_id, obs_type=obs_type)
    obs, _ = env.reset(seed=0, options={"lerobot_new_rollout": True})
    assert set(obs) == {obs_type.removesuffix("_agent_pos"), "agent_pos"} and obs in env.observation_space
    sim = env.unwrapped.sim
    servos = sim.model.jnt_qposadr[sim.model.actuator_trnid[:, 0]]
    assert servos.tolist() == list(range(sim.nu)), "states begin with what the actions move"
    assert np.array_equal(obs["agent_pos"], sim.state[0, : sim.nu]) and len(obs["agent_pos"]) == len(kind.action_low)
    if "environment_state" in obs:
        assert np.array_equal(obs["environment_state"], sim.obs[0])
    else:
        assert obs["pixels"].shape == (96, 96, 3) and obs["pixels"].dtype == np.uint8


# -- specs ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"task": LAG, "obs_type": "pixels"},
        {"task": PushT(shift={"lag": 1.0, "push": 0.5}, push_chance=0.3, success_overlap=0.8), "max_episode_steps": 50},
        {"task": PushT(max_steps=9), "render_mode": "rgb_array"},
    ],
    ids=str,
)
def test_a_spec_makes_the_same_environment_again(given):
    env = gymnasium.make(PUSHT, **given)
    specs = env.spec, pickle.loads(pickle.dumps(env.spec)), EnvSpec.from_json(env.spec.to_json())
    for spec in specs:
        again = gymnasium.make(spec)
        assert again.unwrapped.task == env.unwrapped.task and again.observation_space == env.observation_space
        assert again.spec.max_episode_steps == env.spec.max_episode_steps and again.render_mode == env.render_mode
        assert np.array_equal(again.reset(seed=7)[0], env.reset(seed=7)[0])


@pytest.mark.parametrize("given", [{}, {"task": PushT(shift={"lag": 1.0})}, {"obs_type": "pixels_agent_pos"}], ids=str)
def test_minari_collects_and_recovers(given, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    if "jax" not in sys.modules:  # of which Minari takes nothing but maps over trees, as torch has them
        monkeypatch.setitem(sys.modules, "jax", types.ModuleType("jax"))
        monkeypatch.setitem(sys.modules, "jax.tree_util", torch.utils._pytree)
        sys.modules["jax"].tree_util = torch.utils._pytree
    env = minari.DataCollector(gymnasium.make(PushT.gym_id, max_episode_steps=4, **given), record_infos=True)
    for seed in range(2):
        env.reset(seed=seed)
        for _ in range(4):
            env.step(env.action_space.sample())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about authors and the like
        env.create_dataset("ilbook/pusht-v0", algorithm_name="none")
    data = minari.load_dataset("ilbook/pusht-v0")
    assert data.total_episodes == 2 and data[1].truncations.tolist() == [False, False, False, True]
    assert {"success", "is_success", "score"} <= set(data[1].infos) and len(data[1].actions) == 4
    again = data.recover_environment()
    assert again.unwrapped.task == env.unwrapped.task and again.spec.max_episode_steps == 4
    assert again.observation_space == env.observation_space == data.observation_space
    env.close()


# -- Stable-Baselines3 ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("kind", TASKS)
def test_stable_baselines_finds_nothing_to_complain_about(kind, obs_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="We recommend you to use a symmetric and normalized Box action")
        check_env(gymnasium.make(kind.gym_id, obs_type=obs_type, render_mode="rgb_array"))
        check_env(TaskEnv(kind(), obs_type))


class Straight:
    """Ahead past all obstacles on the left, or into the first one."""

    def __init__(self, way: list[tuple[float, float]]):
        self.way, self.next = way, 0

    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        self.next *= not episode_start[0]
        if np.abs(obs[0, 2:] - self.way[self.next]).max() < 0.02:
            self.next = min(self.next + 1, len(self.way) - 1)
        return np.array([self.way[self.next]], dtype=np.float32), state


def test_stable_baselines_counts_successes():
    """Monitor hands `is_success` on, and what learners and EvalCallback log is the share of it."""
    past, into = [(0.4, -0.25), (0.3, -0.1), (0.3, 0.38)], [(0.5, 0.0)]
    for way, solved in ((past, True), (into, False)):
        env, seen = DummyVecEnv([lambda: Monitor(gymnasium.make(Avoid.gym_id), info_keywords=("is_success",))]), []
        evaluate_policy(Straight(way), env, 2, callback=lambda known, _, seen=seen: seen.append(known["info"]))
        ends = [info for info in seen if "episode" in info]
        assert [info["is_success"] for info in ends] == [info["episode"]["is_success"] for info in ends] == [solved] * 2
        assert all(not info["TimeLimit.truncated"] for info in ends)
        assert all((info["mode"] in range(len(MODE_NAMES))) == solved for info in ends)


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_stable_baselines_tells_a_time_limit_from_an_end(kind):
    many = make_vec_env(
        PUSHT, 2, seed=3, vec_env_cls=kind, env_kwargs={"task": PushT(shift={"lag": 1.0}), "max_episode_steps": 4}
    )
    try:
        many.reset()
        target, seen = np.full((2, 2), 0.25, np.float32), []
        for k in range(4):
            obs, _, done, infos = many.step(np.stack([target[0], BROKEN if k == 3 else target[1]]))
            seen.append(obs)
        assert done.all() and [info["TimeLimit.truncated"] for info in infos] == [True, False]
        # The second one stays where it was, the first one moves on; what is seen already is the next start.
        assert np.array_equal(infos[1]["terminal_observation"], seen[2][1])
        assert not np.array_equal(infos[0]["terminal_observation"], seen[3][0])
        assert [info["episode"]["l"] for info in infos] == [4, 4]
        assert {task.shift for task in many.get_attr("task")} == {(("lag", 1.0),)}
        many.set_options({"start_seed": 6})
        assert np.array_equal(many.reset()[0], PushT().observe(PushT().starts([6]))[0])
    finally:
        many.close()


def test_stable_baselines_learns(tmp_path):
    """A learner with normalised observations runs, saves itself, and its log has the share of successes."""
    many = VecNormalize(make_vec_env(PUSHT, 2, env_kwargs={"max_episode_steps": 5}))
    learner = SAC("MlpPolicy", many, learning_starts=8, batch_size=4, policy_kwargs={"net_arch": [8]}, device="cpu")
    learner.learn(30)
    assert list(learner.ep_success_buffer) and not any(learner.ep_success_buffer)
    learner.save(tmp_path / "learner")
    many.save(str(tmp_path / "many"))
    again = VecNormalize.load(str(tmp_path / "many"), make_vec_env(PUSHT, 2))
    SAC.load(tmp_path / "learner", env=again).predict(again.reset())


# -- other processes --------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_readme_runs_in_processes_that_know_nothing(tmp_path):
    """Stable-Baselines3 spawns, Gymnasium forks or spawns: the id in the README brings its own import."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Tasks in Gymnasium")[2]
    (block,) = re.findall(r"^```python\n(.*?)^```", section.partition("\n## ")[0], flags=re.MULTILINE | re.DOTALL)
    rest = """
    assert longer.spec.max_episode_steps == 1000 and shifted.unwrapped.task.shift == (("lag", 1.0),)
    for one in (longer, shifted, many):
        one.reset(seed=0)
        one.step(one.action_space.sample())
    assert others.reset().shape == (2, 18)
    others.step([others.action_space.sample()] * 2)
    spawned = gymnasium.make_vec(PUSHT, 2, vectorization_mode="async", vector_kwargs={"context": "spawn"})
    spawned.reset(seed=0)
    for one in (many, others, spawned):
        one.close()
    print("done")
"""
    (tmp_path / "snippet.py").write_text(block + rest)
    done = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=250,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr
