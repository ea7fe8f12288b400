"""What every task promises: a value, the batched core made of it, and the Gymnasium environment around that."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, replace

import cloudpickle
import gymnasium
import joblib
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ilbook.tasks.gym
from ilbook import tasks, used
from ilbook.errors import UserError
from ilbook.tasks.base import Task
from ilbook.tasks.gym import OBS_TYPES, TaskEnv
from ilbook.tasks.limit import limit
from ilbook.tasks.simulation import KEPT, Simulation

# Actions are positions in metres, so that they mean the same on a robot.
NOT_MEANT = "we recommend using a symmetric and normalized space"
NOMINAL = [tasks.get(name)() for name in tasks.names()]
# With servos that remember, and with a push that begins between steps 4 and 16 of short episodes.
SHIFTED = [replace(task.shifted(lag=1.0, push=1.0), max_steps=40) for task in NOMINAL]


@pytest.fixture(params=NOMINAL, ids=repr)
def task(request) -> Task:
    return request.param


@pytest.fixture(params=NOMINAL + SHIFTED, ids=repr)
def any_task(request) -> Task:
    return request.param


def wander(task: Task, n_steps: int, n_copies: int, seed: int = 0) -> np.ndarray:
    """Actions (T, N, A) that aim at one random place after the other, for ten steps each."""
    rng = np.random.default_rng(seed)
    size = (-(-n_steps // 10), n_copies, len(task.action_low))
    return np.repeat(rng.uniform(task.action_low, task.action_high, size), 10, axis=0)[:n_steps]


def started(task: Task, seeds: Iterable[int], threads: int | None = None) -> Simulation:
    """A simulation with one copy at each of these starts."""
    states = task.starts(seeds)
    sim = task.batch(len(states), threads)
    sim.reset(states)
    return sim


def run(sim: Simulation, actions: np.ndarray) -> np.ndarray:
    """Everything that happens from here on, as numbers (T + 1, N, ...)."""
    seen = [look(sim)]
    for action in actions:
        sim.step(action)
        seen.append(look(sim))
    return np.stack(seen)


def look(sim: Simulation) -> np.ndarray:
    flags = [sim.success, sim.failure, sim.invalid, sim.done, sim.terminated, sim.truncated, sim.length]
    columns = [*flags, sim.score, sim.reward, *sim.info().values()]
    return np.concatenate([sim.obs, sim.state, sim.physics, np.stack(columns, axis=1).astype(float)], axis=1)


# -- names ------------------------------------------------------------------------------------------------------------
def test_tasks_are_found_and_say_what_they_are():
    assert {"avoid", "insert", "lift", "pickplace", "pusht"} <= set(tasks.names())
    for name in tasks.names():
        task = tasks.get(name)
        assert task.name == name and task.__doc__.partition("\n")[0].endswith(".") and task.gym_id.startswith("ilbook/")


def test_an_unknown_task_gives_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown task 'push'; nearest valid name: 'pusht'"):
        tasks.get("push")


def test_a_simulation_announces_its_task_and_no_other(task):
    """Else a new task, or a new perturbation, would make results stale that never met it."""
    with used.collected() as parts:
        task.shifted(lag=0.5)
    assert parts == set()
    with used.collected() as parts:
        task.batch()
    assert parts == {f"tasks.{task.name}"}
    with used.collected() as parts:
        task.shifted(lag=0.5, push=1.0).batch()
    assert parts == {f"tasks.{task.name}{what}" for what in ("", ":lag", ":push")}


# -- values -----------------------------------------------------------------------------------------------------------
def test_a_task_is_a_value(task):
    kind = type(task)
    assert task == kind() and hash(task) == hash(kind()) and task is not kind()
    assert repr(task) == f"{kind.__name__}()"
    many = {kind(), kind(max_steps=7), kind(shift={"lag": 1.0}), kind(max_steps=7), kind().shifted(lag=1)}
    assert len(many) == 3 and all(task != other for other in NOMINAL if type(other) is not kind)
    with pytest.raises(FrozenInstanceError):
        task.max_steps = 7


def test_a_repr_says_all_and_makes_the_same_task_again(any_task):
    for one in (any_task, replace(any_task, max_steps=12), any_task.shifted(size=-0.5, push=2.0)):
        again = eval(repr(one), {type(one).__name__: type(one)})
        assert again == one and hash(again) == hash(one) and repr(again) == repr(one)
        assert pickle.loads(pickle.dumps(one)) == one  # processes hand tasks to each other
    assert repr(any_task.shifted(lag=0.5, mass=1.0)).count("shift={") == 1


def test_shifts_add_up_in_any_order(task):
    kind, lag = type(task), task.shifted(lag=1.0)
    assert lag == kind(shift={"lag": 1.0}) == kind(shift=(("lag", 1.0),)) and type(lag) is kind
    assert lag.shifted(mass=0.5) == task.shifted(mass=0.5).shifted(lag=1) == task.shifted(lag=1.0, mass=0.5)
    assert lag.shifted(lag=0.0) == task and lag.shifted(lag=0.5) == task.shifted(lag=0.5)
    assert (lag.strength("lag"), lag.strength("mass"), task.strength("lag")) == (1.0, 0.0, 0.0)
    both = replace(task.shifted(push=0.5), push_chance=0.3, max_steps=9).shifted(mass=1.0)
    assert both == kind(shift={"mass": 1.0, "push": 0.5}, push_chance=0.3, max_steps=9)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shift": {"las": 1.0}}, r"unknown perturbation of {} 'las'; nearest valid name: '(lag|mass)'"),
        ({"shift": {"mass": 3}}, r"{}: perturbation mass has the strength 3; choose -1 to 2"),
        ({"shift": {"lag": -1}}, r"{}: perturbation lag has the strength -1; choose 0 to 2"),
        ({"shift": {"push": np.nan}}, r"{}: perturbation push has the strength nan; choose -1 to 2"),
        ({"max_steps": 0}, r"{}: max_steps is 0; an episode has at least one step"),
        ({"push_chance": 1.5, "shift": {"push": 1.0}}, r"{}: push_chance is 1.5; choose 0 to 1"),
        ({"push_chance": 0.5}, r"{}: push_chance is given and nothing pushes; add shift=\{{'push': 1.0\}}"),
    ],
    ids=str,
)
def test_values_that_make_no_task_are_refused(task, wrong, sentence):
    with pytest.raises(UserError, match=sentence.format(task.name)):
        type(task)(**wrong)
    with pytest.raises(UserError, match=sentence.format(task.name)):
        replace(task, **wrong)


# -- distribution shift -----------------------------------------------------------------------------------------------
SEEN_ONLY = {"camera", "colours", "distractors"}
STILL = {"mass", "friction", "size", "hole"}  # of what a random motion need not touch; the tests of a task look closer


def test_every_task_can_be_shifted(task):
    expected = {"mass", "size", "camera", "colours", "distractors", "lag", "push"}
    assert expected <= set(task.perturbations)
    assert all(effect.strip() for effect in task.perturbations.values())


def test_each_perturbation_changes_what_it_should(task):
    """The pictures and nothing else, or what happens; whatever is pushed, dragged or heavier then moves otherwise."""
    actions, seeds, start = wander(task, 60, 6), range(6), task.starts([2])
    nominal, frame = run(started(task, seeds), actions), task.render(start, 64)
    for name in task.perturbations:
        shifted = task.shifted(**{name: 1.0})
        happens = run(started(shifted, seeds), actions)
        seen = shifted.render(start, 64)
        assert np.isfinite(happens).all(), name
        if name in SEEN_ONLY:
            assert np.array_equal(happens, nominal), name
            assert np.abs(seen.astype(int) - frame).mean() > 0.3, name
        elif name not in STILL:
            assert not np.array_equal(happens, nominal), name


# -- the batched core -------------------------------------------------------------------------------------------------
def test_shapes_and_types(any_task):
    sim = any_task.batch(3)
    n_obs, n_state = len(any_task.obs_names), len(any_task.state_names)
    obs = sim.reset(any_task.starts([4, 5, 6]))
    for seen in (obs, sim.step(wander(any_task, 1, 3)[0]), sim.obs):
        assert seen.shape == (3, n_obs) and seen.dtype == np.float64
    assert sim.state.shape == (3, n_state) and np.isfinite(sim.state).all()
    assert any_task.action_low.shape == any_task.action_high.shape == (sim.nu,) == sim.command.shape[1:]
    for flag in (sim.success, sim.failure, sim.invalid, sim.done, sim.terminated, sim.truncated):
        assert flag.shape == (3,) and flag.dtype == bool
    assert sim.length.tolist() == [1, 1, 1]
    assert sim.score.shape == sim.reward.shape == (3,)
    assert all(column.shape == (3,) for column in sim.info().values())
    assert any_task.render(sim.state, 16).shape == (3, 16, 16, 3) and any_task.render(sim.state[0], 16).shape[0] == 1


def test_same_seed_same_numbers(any_task):
    actions = wander(any_task, 40, 4)
    assert np.array_equal(*(run(started(any_task, range(4)), actions) for _ in range(2)))


def test_a_used_simulation_is_as_good_as_a_new_one(any_task):
    actions = wander(any_task, 40, 4)
    sim = started(any_task, [8, 9, 10, 11])
    run(sim, wander(any_task, 30, 4, seed=1))
    sim.reset(any_task.starts(range(4)))
    assert np.array_equal(run(sim, actions), run(started(any_task, range(4)), actions))


def test_a_batch_equals_single_copies(any_task):
    """Pushes follow from the start alone: all policies meet the same one, whatever else is in the batch."""
    actions = wander(any_task, 60, 5)
    batch = run(started(any_task, range(5)), actions)
    for i in range(5):
        assert np.array_equal(batch[:, i : i + 1], run(started(any_task, [i]), actions[:, i : i + 1]))


def test_threads_do_not_change_numbers(any_task):
    actions = wander(any_task, 40, 7)
    assert np.array_equal(*(run(started(any_task, range(7), threads), actions) for threads in (1, 3)))


def test_what_is_only_looked_at_changes_nothing(task):
    """The physics leaves out geoms that nothing touches, cameras and lights, and runs without a clock."""

    class Whole(type(task)):
        def load_model(self, looks=True):
            return super().load_model()

    seeds, actions = [2, 7, 9], wander(task, 30, 3)
    sim, whole = started(task, seeds), started(Whole(), seeds)
    assert sim.model.ngeom < whole.model.ngeom and not sim.model.ncam and not sim.model.nlight
    assert np.array_equal(run(sim, actions), run(whole, actions))
    assert all(timer.duration == 0 for timer in sim._data[0].timer)


def test_a_finished_copy_is_frozen_and_costs_nothing(any_task):
    sim, actions = started(any_task, range(3)), wander(any_task, 12, 3)
    sim.step(np.where(np.arange(3)[:, None] == 1, np.nan, actions[0]))
    before, moved, pool = look(sim), [], sim._pool

    class Counting:
        """Knows how many copies the physics was asked to move."""

        def rollout(self, models, data, physics, *rest, **settings):
            moved.append(len(physics))
            pool.rollout(models, data, physics, *rest, **settings)

    sim._pool = Counting()
    assert sim.done.tolist() == [False, True, False]
    for action in actions:
        sim.step(action)
    assert np.array_equal(look(sim)[1], before[1])
    assert sim.length.tolist() == [13, 0, 13] and moved == [2] * 12
    sim.step(np.full_like(actions[0], np.nan))
    assert np.array_equal(sim.step(actions[0]), sim.obs) and sim.done.all() and moved == [2] * 12


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_fails_only_its_copy(task, bad):
    actions = wander(task, 20, 3)
    spoilt = actions.copy()
    spoilt[5, 1, 0] = bad
    sim = started(task, range(3))
    good, hurt = run(started(task, range(3)), actions), run(sim, spoilt)
    assert np.array_equal(good[:, [0, 2]], hurt[:, [0, 2]])
    assert np.array_equal(good[:6, 1], hurt[:6, 1])
    assert sim.failure[1] and not sim.success[1] and sim.length[1] == 5 and sim.invalid.tolist() == [False, True, False]


def test_physics_that_gives_out_fails_only_its_copy(task, tmp_path, monkeypatch):
    """No action does that, but an unstable model might: MuJoCo would go on from its own start as if nothing were."""
    monkeypatch.chdir(tmp_path)  # where MuJoCo writes its warning
    actions, sims = wander(task, 6, 3), [started(task, range(3)) for _ in range(2)]
    calm, hurt = sims
    for sim in sims:
        run(sim, actions[:3])
    state, score = hurt.state[1], hurt.score[1]
    hurt.physics[1, -1] = np.nan  # a velocity
    assert np.array_equal(run(hurt, actions[3:])[:, [0, 2]], run(calm, actions[3:])[:, [0, 2]])
    assert hurt.invalid.tolist() == hurt.failure.tolist() == [False, True, False]
    assert np.array_equal(hurt.state[1], state) and hurt.score[1] == score, "it stays where it was"
    assert not hurt.success[1] and hurt.length.tolist() == [6, 3, 6] and np.isfinite(hurt.reward).all()


def test_the_command_moves_by_the_limit(any_task):
    sim = started(any_task, range(6))
    box = any_task.action_low, any_task.action_high
    reach = any_task.max_speed / any_task.control_hz
    for action in wander(any_task, 50, 6):
        running, before, action = ~sim.done, sim.command.copy(), action + 0.3 * (action - action.mean(axis=0))
        sim.step(action)
        goal = np.clip(action, *box)
        far = np.linalg.norm((goal - before) * any_task.weight, axis=1, keepdims=True)
        straight = before + (goal - before) * np.minimum(1, reach / np.maximum(far, 1e-9))
        allowed = before + limit(action, before, *box, reach, any_task.weight)
        np.testing.assert_allclose(allowed, straight, atol=1e-12)
        np.testing.assert_allclose(sim.command[running], allowed[running], atol=1e-15, rtol=0)
        assert np.array_equal(sim.command[~running], before[~running])
        assert (sim.command >= box[0]).all() and (sim.command <= box[1]).all()


@pytest.mark.parametrize("weight", [1.0, np.array([1.0, 0.5, 2.0])], ids=["same", "weighted"])
def test_a_limited_move_stays_in_the_box_and_within_reach(weight):
    rng = np.random.default_rng(0)
    low, high = np.array([-1.0, 0.0, 0.2]), np.array([1.0, 0.5, 0.3])
    action, command = rng.normal(0, 2, (500, 3)), rng.uniform(low, high, (500, 3))
    action[0], action[1] = command[0], np.inf
    given = action.copy(), command.copy()
    for reach in (0.0, 0.05, 10.0):
        move = limit(action, command, low, high, reach, weight)
        goal = np.clip(action, low, high)
        length, far = (np.linalg.norm(way * weight, axis=1) for way in (move, goal - command))
        assert (length <= reach + 1e-12).all() and move.shape == (500, 3)
        assert (command + move >= low - 1e-12).all() and (command + move <= high + 1e-12).all()
        np.testing.assert_allclose(move, (goal - command) * (length / np.maximum(far, 1e-12))[:, None], atol=1e-12)
        np.testing.assert_allclose(length, np.minimum(far, reach), atol=1e-12)
    assert np.array_equal(action, given[0]) and np.array_equal(command, given[1])


def test_what_is_left_alone_stays(task):
    if task.load_model().opt.gravity.any():
        pytest.skip("under gravity an arm settles into its servos")
    start = task.starts(range(6))
    sim = started(task, range(6))
    for _ in range(20):
        sim.step(start[:, -sim.nu :])
    np.testing.assert_allclose(sim.state, start, atol=1e-9)


def test_states_survive_a_reset(task):
    sim = started(task, range(4))
    for action in wander(task, 25, 4):
        sim.step(action)
    state, obs = sim.state, sim.obs
    other = task.batch(4)
    assert np.array_equal(other.reset(state), obs)
    assert np.array_equal(other.state, state)
    assert np.array_equal(task.observe(state), obs) and np.array_equal(type(task).observe(state), obs)


def test_reset_of_some_copies_leaves_the_others_alone(any_task):
    sim, actions, index = started(any_task, range(5)), wander(any_task, 30, 5), np.array([3, 1])
    run(sim, actions[:15])
    before, alone = look(sim), run(started(any_task, [21, 20]), actions[15:, index])
    sim.reset(any_task.starts([21, 20]), index)
    assert np.array_equal(look(sim)[[0, 2, 4]], before[[0, 2, 4]])
    for k, action in enumerate(actions[15:]):
        assert np.array_equal(look(sim)[index], alone[k])
        sim.step(action)
    whole = run(started(any_task, range(5)), actions)
    assert np.array_equal(look(sim)[[0, 2, 4]], whole[-1, [0, 2, 4]])


def test_reset_to_the_same_place_judges_anew(task):
    sim = started(task, [3, 7])
    fresh = look(sim)
    sim.reset(task.starts([7]), np.array([1]))
    assert np.array_equal(look(sim), fresh)


def test_starts_depend_on_their_own_seed_only(task):
    many = task.starts(range(20))
    assert np.array_equal(many[[5, 3]], task.starts([5, 3]))
    assert len(np.unique(many, axis=0)) == 20
    assert not started(task, range(20)).done.any()
    # Demonstrations begin elsewhere than policies are judged.
    assert not (task.starts([(5,), (5, 0), (0, 5)])[:, None] == many).all(axis=-1).any()


def test_what_is_seen_stays_in_bounds(any_task):
    sim = started(any_task, range(16))
    for action in wander(any_task, 80, 16):
        obs = sim.step(action)
        assert (np.abs(obs) < any_task.obs_limit).all()
        for value in (sim.score, sim.reward):
            assert ((value >= 0) & (value <= 1)).all()


def test_an_episode_ends_at_max_steps(any_task):
    short = replace(any_task, max_steps=min(any_task.max_steps, 60))
    for one in {any_task, short}:
        sim = started(one.shifted(push=0.0) if one.strength("push") else one, [0])
        stay = sim.command.copy()
        for _ in range(one.max_steps):
            assert not sim.done[0] and not sim.truncated[0]
            sim.step(stay)
        sim.step(np.full_like(stay, np.nan))  # too late to fail
        assert sim.length[0] == one.max_steps and sim.done[0] and sim.truncated[0] and not sim.terminated[0]
        assert not sim.success[0] and not sim.failure[0]


# -- looking ----------------------------------------------------------------------------------------------------------
def test_only_what_is_asked_for_is_seen(any_task, monkeypatch):
    """By those who ask: a picture costs more than a step."""
    sim, drawn = started(any_task, range(4)), []
    run(sim, wander(any_task, 5, 4))
    render = Task.render
    monkeypatch.setattr(Task, "render", lambda *given: drawn.append(len(given[1])) or render(*given))
    everything = sim.see(["obs", "state", "image", "goal"])
    assert list(everything) == ["obs", "state", "image", "goal"] and drawn == [4]
    goal, image = any_task.goal(sim.state), render(any_task, sim.state)
    for name, expected in (("obs", sim.obs), ("state", sim.state), ("goal", goal), ("image", image)):
        assert np.array_equal(everything[name], expected) and everything[name].shape[0] == 4
    assert everything["image"].shape == (4, 96, 96, 3) and everything["image"].dtype == np.uint8
    few = np.array([3, 1])
    for names in ((), ("state",), ("goal", "obs"), ["image", "obs"]):
        drawn.clear()
        seen = sim.see(names, few)
        assert list(seen) == list(names) and drawn == [2] * ("image" in names)
        assert all(np.array_equal(seen[name], everything[name][few]) for name in names)
    assert sim.see(["obs"], np.array([], dtype=int))["obs"].shape == (0, len(any_task.obs_names))


def test_what_is_seen_belongs_to_who_asked(any_task):
    sim = started(any_task, range(2))
    seen = sim.see(["obs", "state"])
    kept = {name: array.copy() for name, array in seen.items()}
    run(sim, wander(any_task, 3, 2))
    assert all(np.array_equal(seen[name], kept[name]) for name in seen)
    before = look(sim)
    for array in sim.see(["obs", "state"]).values():
        array += 1
    assert np.array_equal(look(sim), before)


def test_inputs_that_do_not_exist_are_refused(task):
    class Aimless(type(task)):
        goal = Task.goal

    with pytest.raises(UserError, match=f"unknown input that {task.name} can show 'pixels'; nearest valid name"):
        started(task, [0]).see(["obs", "pixels"])
    with pytest.raises(UserError, match=f"{task.name} shows no goal; take 'goal' out of the policy's inputs"):
        started(Aimless(), [0]).see(["goal"])


# -- saving -----------------------------------------------------------------------------------------------------------
def pushed_now(sim: Simulation) -> np.ndarray:
    """Which copies (N,) are being pushed in their next step."""
    return (sim.length >= sim._push_begin) & (sim.length <= sim._push_begin) & (sim._push != 0).any(axis=1)


def test_saved_copies_go_on_bit_for_bit(any_task):
    """With their velocities, servos, pushes under way and what was judged: more than a reset to the same state does."""
    actions, steps = wander(any_task, 34, 6), 6
    if any_task.strength("push"):  # to where a push has just begun, or will in the next step
        trial = started(any_task, range(6))
        steps = next(k for k, action in enumerate(actions) if pushed_now(trial).any() or trial.step(action) is None)
    sim = started(any_task, range(6))
    run(sim, actions[:steps])
    saved, state = sim.save(), sim.state
    kept = {name: array.copy() for name, array in saved.items()}
    first = run(sim, actions[steps:])
    assert all(np.array_equal(saved[name], kept[name], equal_nan=True) for name in kept), "a save is a copy"
    sim.restore(saved)
    assert np.array_equal(run(sim, actions[steps:]), first)
    other = any_task.batch(6, threads=2)  # never reset
    other.restore(saved)
    assert np.array_equal(run(other, actions[steps:]), first)
    other.reset(state)
    assert not np.array_equal(run(other, actions[steps:])[-1], first[-1])


def test_some_copies_are_saved_and_restored(any_task):
    sim, actions, few = started(any_task, range(5)), wander(any_task, 24, 5), np.array([3, 1])
    run(sim, actions[:8])
    saved = sim.save(few)
    assert all(len(array) == 2 for array in saved.values()) and set(KEPT) <= set(saved)
    first = run(sim, actions[8:16])
    before = look(sim)
    sim.restore(saved, few)
    now = look(sim)
    assert np.array_equal(now[few], first[0, few]) and np.array_equal(now[[0, 2, 4]], before[[0, 2, 4]])
    again, others = run(sim, actions[8:16]), [0, 2, 4]
    assert np.array_equal(again[:, few], first[:, few])
    pair = any_task.batch(2)
    pair.restore(saved)
    assert np.array_equal(run(pair, actions[8:16, few]), first[:, few])
    swapped = started(any_task, range(5))
    swapped.restore(saved, np.array([0, 4]))  # each goes on in another place, too
    assert np.array_equal(run(swapped, actions[8:16][:, [3, 1, 2, 3, 1]])[:, [0, 4]], first[:, few])
    assert not np.array_equal(again[-1, others], first[-1, others])


def test_a_foreign_save_is_refused(task):
    sim = started(task, range(3))
    saved, before = sim.save(), look(sim)
    for foreign, copies in (
        (started(next(other for other in NOMINAL if other.name != task.name), range(3)).save(), None),
        (started(task.shifted(lag=1.0), range(3)).save(), None),  # its servos remember
        (saved, np.array([0, 1])),
        (sim.save(np.array([0])), None),
        ({name: array for name, array in saved.items() if name != "score"}, None),
    ):
        count = 3 if copies is None else 2
        with pytest.raises(UserError, match=rf"{task.name}: restore got no \w+.* of shape .*for {count} copies"):
            sim.restore(foreign, copies)
        assert np.array_equal(look(sim), before), "nothing is half restored"


def test_wrong_shapes_and_too_early_steps_are_refused(task):
    with pytest.raises(UserError, match=rf"{task.name}: n_copies is 0; .*at least one copy"):
        task.batch(0)
    sim = task.batch(2)
    hold = np.tile(task.action_low, (2, 1))
    with pytest.raises(UserError, match=rf"{task.name}: copy 0 has no start yet; call reset before step"):
        sim.step(hold)
    sim.reset(task.starts([0]), np.array([0]))
    with pytest.raises(UserError, match=rf"{task.name}: copy 1 has no start yet; call reset before step"):
        sim.step(hold)
    with pytest.raises(UserError, match=r"states of shape \(1, .*2 copies need"):
        sim.reset(task.starts([0]))
    with pytest.raises(UserError, match=rf"actions of shape \({sim.nu},\), not \(2, {sim.nu}\)"):
        sim.step(np.zeros(sim.nu))


# -- copies and forks -------------------------------------------------------------------------------------------------
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "cloudpickle": lambda one: pickle.loads(cloudpickle.dumps(one)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copied_simulation_goes_on_bit_for_bit(any_task, copied):
    """Also one whose servos lag, whose push is under way, whose model somebody changed, and that is done in part."""
    actions, sim = wander(any_task, 34, 6), any_task.batch(6, threads=2)
    sim.model.opt.timestep *= 0.5
    unset = copied(sim)
    sim.reset(any_task.starts(range(6)))
    steps = 6
    if any_task.strength("push"):
        steps = next(k for k, action in enumerate(actions) if pushed_now(sim).any() or sim.step(action) is None)
    else:
        run(sim, actions[:steps])
    sim.step(np.where(np.arange(6)[:, None] == 2, np.nan, actions[steps]))
    other = copied(sim)
    assert other.task == sim.task and len(other._data) == 2 and other._pool is not sim._pool
    before = look(sim)
    there = run(other, actions[steps + 1 :])
    assert np.array_equal(look(sim), before), "they share nothing"
    assert np.array_equal(run(sim, actions[steps + 1 :]), there)
    saved = sim.save()
    assert all(np.array_equal(array, saved[name], equal_nan=True) for name, array in other.save().items())
    other.reset(any_task.starts(range(6)))  # and its arrays are still those that it keeps
    assert np.array_equal(look(other), look(started(any_task, range(6))))
    with pytest.raises(UserError, match="copy 0 has no start yet; call reset before step"):
        unset.step(actions[0])


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("wrapped", [True, False], ids=["make", "TaskEnv"])
@pytest.mark.parametrize("task", SHIFTED, ids=repr)
def test_a_copied_environment_goes_on_bit_for_bit(task, copied, wrapped):
    """With its generator, its spaces' generators, and how many steps Gymnasium has counted."""
    lag = {"shift": {"lag": 1.0}}
    env = gymnasium.make(task.gym_id, task=lag, max_episode_steps=20) if wrapped else TaskEnv(task)
    env.reset(seed=3)
    env.action_space.seed(5)
    for action in wander(task, 12, 1):
        env.step(action[0])
    other = copied(env)
    for _ in range(2):
        happened = []
        for one in (env, other):
            steps, ended = [], False
            while not ended:
                steps.append(one.step(one.action_space.sample()))
                ended = steps[-1][2] or steps[-1][3]
            happened.append((steps, one.reset()[0]))
        (one, one_start), (two, two_start) = happened
        assert len(one) == len(two) and np.array_equal(one_start, two_start)
        for left, right in zip(one, two, strict=True):
            assert np.array_equal(left[0], right[0]) and left[1:] == right[1:]
    assert other.unwrapped.np_random_seed == 3 and str(other.spec) == str(env.spec)


def test_simulations_travel_to_other_processes():
    sims = [started(task, [1, 2], threads=2) for task in SHIFTED]
    jobs = [(sim, wander(sim.task, 10, 2)) for sim in sims]
    there = joblib.Parallel(n_jobs=2)(joblib.delayed(run)(*job) for job in jobs)
    assert all(np.array_equal(run(*job), seen) for job, seen in zip(jobs, there, strict=True))


def test_a_copy_announces_its_task():
    """In whatever process it wakes up: results name what really ran."""
    packed = pickle.dumps(NOMINAL[0].shifted(lag=1.0).batch())
    with used.collected() as parts:
        pickle.loads(packed)
    assert parts == {f"tasks.{NOMINAL[0].name}", f"tasks.{NOMINAL[0].name}:lag"}


def in_a_fork(work) -> object:
    """What `work` returns in a forked child, which has half a minute; else None."""
    (ours, theirs), seen = multiprocessing.Pipe(), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer: other threads may hold locks
        child = os.fork()
    if not child:
        try:
            theirs.send(work())
        except BaseException as error:
            theirs.send(error)
        finally:
            os._exit(0)
    if ours.poll(30):
        seen = ours.recv()
    else:
        os.kill(child, 9)
    os.waitpid(child, 0)
    return seen


def test_a_simulation_is_stepped_in_a_fork(any_task):
    sim, actions = started(any_task, range(4), threads=2), wander(any_task, 20, 4)
    run(sim, actions[:5])
    there = in_a_fork(lambda: run(sim, actions[5:]))
    assert there is not None, "the child waits for threads that it does not have"
    assert np.array_equal(run(sim, actions[5:]), there), "and the parent goes on"


def test_forks_of_forks_and_of_unused_simulations(task):
    sims = [started(task, range(3), threads=3) for _ in range(2)]
    actions = wander(task, 6, 3)
    here = run(started(task, range(3)), actions)

    def deeper():
        run(sims[0], actions)
        return in_a_fork(lambda: [run(sims[1], actions), sims.clear()][0])  # it also lets them go

    assert np.array_equal(in_a_fork(deeper), here)


def test_a_fork_while_another_thread_steps(task):
    """The thread goes on with what it has; the child, which lacks it, has other simulations to step."""
    busy, idle, stop = started(task, range(4), threads=2), started(task, range(4), threads=2), threading.Event()

    def work():
        while not stop.is_set():
            busy.reset(task.starts(range(4)))
            run(busy, wander(task, 5, 4))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        there = [in_a_fork(lambda: run(copy.deepcopy(idle), wander(task, 5, 4))) for _ in range(5)]
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive() and all(np.array_equal(seen, there[0]) for seen in there) and there[0] is not None


@pytest.mark.parametrize("end", ["sim.step(a)", "del sim", "sim = None; import gc; gc.collect()", "pass"])
def test_a_forked_child_ends_as_any_other(end):
    """Python frees what is left when it ends, pools of threads with it."""
    code = f"""import os, sys, numpy as np
from ilbook.tasks.avoid import Avoid
sim, a = Avoid().batch(4, threads=2), np.zeros((4, 2))
sim.reset(Avoid().starts(range(4)))
sim.step(a)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
{end}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind_step_what_they_are_given(method):
    task = NOMINAL[0]
    sim, actions = started(task, range(4), threads=2), wander(task, 8, 4)
    sim.step(actions[0])
    with multiprocessing.get_context(method).Pool(1) as pool:
        there = pool.apply_async(_stepped, (sim, actions)).get(120)
    assert np.array_equal(there, _stepped(sim, actions))


def _stepped(sim: Simulation, actions: np.ndarray) -> np.ndarray:
    for action in actions:
        sim.step(action)
    return sim.state


# -- Gymnasium --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_gymnasium_finds_nothing_to_complain_about(task, obs_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=f"(?s).*{NOT_MEANT}")
        env = gymnasium.make(task.gym_id, obs_type=obs_type)
        check_env(env.unwrapped)
    assert env.metadata["render_fps"] == round(task.control_hz)


def test_env_gives_the_numbers_of_the_task(any_task):
    """Ends, rewards and what else the adapter says are those of the simulation; shifted tasks are handed in."""
    env, actions = TaskEnv(any_task), wander(any_task, 45, 1)
    assert env.task is any_task and env.sim.task is any_task
    sim = started(any_task, [12])
    obs, info = env.reset(options={"start_seed": 12})
    assert np.array_equal(obs, sim.obs[0])
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action[0])
        assert np.array_equal(obs, sim.step(action)[0])
        assert (reward, terminated, truncated) == (sim.reward[0], sim.terminated[0], sim.truncated[0])
        assert terminated == (sim.success[0] or sim.failure[0]) and (terminated or truncated) == sim.done[0]
        assert (info["success"], info["score"]) == (sim.success[0], sim.score[0])
        assert set(info) == {"success", "is_success", "score", *sim.info()} and info["is_success"] is info["success"]
        if terminated or truncated:
            break
    assert sim.done[0] or any_task.max_steps > len(actions)


def test_env_ends_are_told_apart(task):
    env = gymnasium.make(task.gym_id)
    env.reset(seed=0)
    *_, terminated, truncated, _ = env.step(np.full_like(task.action_low, np.nan))
    assert terminated and not truncated
    env.reset(seed=0)
    stay = env.unwrapped.sim.command[0].copy()
    ends = [env.step(stay)[2:4] for _ in range(task.max_steps)]
    assert ends[:-1] == [(False, False)] * (task.max_steps - 1) and ends[-1] == (False, True)


def test_env_seeds(task):
    env = gymnasium.make(task.gym_id)
    first, _ = env.reset(seed=5)
    second, _ = env.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(env.reset(seed=5)[0], first) and np.array_equal(env.reset()[0], second)


def test_gymnasium_steps_several_side_by_side(task):
    """Each with its own generator, and each ends and begins anew on its own."""
    many, actions = gymnasium.make_vec(task.gym_id, num_envs=3), wander(task, 20, 3).astype(np.float32)
    actions[5, 1] = np.nan
    alone = [gymnasium.make(task.gym_id) for _ in range(3)]
    seen = many.reset(seed=9)[0]
    assert np.array_equal(seen, [env.reset(seed=9 + i)[0] for i, env in enumerate(alone)])
    for action in actions[:6]:
        obs, reward, terminated, *_ = many.step(action)
        rows = [env.step(row) for env, row in zip(alone, action, strict=True)]
        assert np.array_equal(obs, [row[0] for row in rows]) and np.array_equal(reward, [row[1] for row in rows])
    assert terminated.tolist() == [False, True, False]
    for action in actions[6:]:
        *_, terminated, _, infos = many.step(action)
        assert not terminated[1] and infos["success"].shape == (3,)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start_sed": 1}, "unknown reset option 'start_sed'; nearest valid name: 'start_seed'"),
        ({"start_seed": 1.5}, "start_seed is 1.5; give a whole number"),
        ({"start_seed": -1}, "start_seed is -1; give a whole number"),
        ({"start_seed": [1, 2]}, r"start_seed is \[1, 2\]; give a whole number"),
        ({"startseed": 1, "lerobot_new_rollout": True}, "unknown reset option 'startseed'; nearest"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        gymnasium.make("ilbook/PushT-v0").reset(options=options)


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match="unknown obs_type 'pixel'; nearest valid name: 'pixels'"):
        gymnasium.make("ilbook/PushT-v0", obs_type="pixel")
    with pytest.raises(UserError, match="unknown task 'push'; nearest valid name: 'pusht'"):
        TaskEnv("push")


def test_pixels_and_pictures(task):
    env = gymnasium.make(task.gym_id, obs_type="pixels", render_mode="rgb_array")
    seen = env.reset(options={"start_seed": 1})[0]
    assert seen.shape == (96, 96, 3) and seen.dtype == np.uint8 and seen.std() > 0
    assert env.render().shape == (480, 480, 3) and env.observation_space.contains(seen)
    assert TaskEnv(task).render() is None


@pytest.mark.parametrize(
    "first",
    [
        "name = 'ilbook.tasks.gym:'",
        "import ilbook; name = 'ilbook.tasks.gym:'",
        "import ilbook.tasks.gym; name = ''",
        "import ilbook.tasks.gym; name = 'ilbook.tasks.gym:'",
    ],
)
def test_ids_are_there_once_the_adapter_is_imported(first):
    code = f"""import gymnasium
assert "ilbook/PushT-v0" not in gymnasium.registry
{first}
assert gymnasium.make(name + "ilbook/PushT-v0").unwrapped.task.name == "pusht"
assert gymnasium.make_vec(name + "ilbook/Lift-v0", num_envs=2).envs[0].unwrapped.task.name == "lift"
assert "ilbook/Avoid-v0" in gymnasium.registry
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)


def test_every_id_is_registered_once():
    registered = {name for name in gymnasium.registry if name.startswith("ilbook/")}
    assert registered == {task.gym_id for task in NOMINAL} and len(registered) == len(NOMINAL)
    assert ilbook.tasks.gym.TaskEnv("pusht").task == tasks.get("pusht")()


def test_importing_ilbook_imports_nothing_heavy():
    code = """import sys, ilbook, ilbook.tasks
assert ilbook.tasks.names()
heavy = {"gymnasium", "mujoco", "numpy", "torch", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
