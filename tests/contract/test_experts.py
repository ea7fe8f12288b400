"""What every demonstrator promises: it solves its task, from anywhere, repeatably, and its knobs do what they say."""

from dataclasses import replace

import numpy as np
import pytest

from ilbook import experts, tasks
from ilbook.errors import UserError
from ilbook.experts.base import GRADES, STEADY, Expert, Style, graded
from ilbook.tasks.base import Task


@pytest.fixture(params=experts.names())
def expert_type(request) -> type[Expert]:
    return experts.get(request.param)


def play(expert_type, style, start_seeds, task_type=None, seeds=None) -> tuple[Task, np.ndarray]:
    """The task after the expert's episodes with all slips, and the clean actions (T, N, A)."""
    task = (task_type or expert_type.task)(len(start_seeds))
    expert, actions = expert_type(len(start_seeds), style, seeds), []
    task.reset(task.starts(start_seeds))
    while not task.done.all():
        actions.append(expert.act(task.state))
        task.step(expert.slip(actions[-1]))
    return task, np.stack(actions)


def test_every_task_has_an_expert():
    assert experts.names() == tasks.names()
    assert all(experts.get(name).task is tasks.get(name) for name in tasks.names())
    with pytest.raises(UserError, match="nearest valid name: 'pusht'"):
        experts.get("push")


def test_it_solves_random_starts(expert_type):
    task, actions = play(expert_type, STEADY, range(1000, 1200))
    assert task.success.mean() >= 0.95, f"failed starts: {1000 + np.flatnonzero(~task.success)}"
    assert np.isfinite(actions).all()


def test_it_can_take_over_anywhere(expert_type):
    """Also where somebody without a plan has led it, as long as nothing is lost there."""
    task, expert, rng = expert_type.task(64), expert_type(64), np.random.default_rng(0)
    task.reset(task.starts(range(64)))
    for step in range(24):
        if step % 8 == 0:
            action = task.command + 0.04 * rng.standard_normal(task.command.shape) / task.weight
        task.step(action)
    copies = np.flatnonzero(~task.done)
    task.length[:] = 0
    expert.take_over(task.state, copies)
    while not task.done.all():
        task.step(expert.act(task.state))
    assert len(copies) >= 32 and task.success[copies].mean() >= 0.9


def test_same_seeds_same_demonstration(expert_type):
    style = Style(noise=0.2, knock=0.01, pause=0.2, detour=0.3)
    seeds = [(3, k) for k in range(4)]
    (one, first), (two, second) = (play(expert_type, style, range(4), seeds=seeds) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(one.state, two.state)
    _, third = play(expert_type, style, range(4), seeds=[(4, k) for k in range(4)])
    assert first.shape != third.shape or not np.array_equal(first, third)


def test_a_copy_does_not_depend_on_the_others(expert_type):
    style = Style(noise=0.2, knock=0.01, pause=0.2, detour=0.3)
    batch, _ = play(expert_type, style, range(3), seeds=[(3, k) for k in range(3)])
    alone, _ = play(expert_type, style, [1], seeds=[(3, 1)])
    assert np.array_equal(batch.state[1], alone.state[0]) and batch.length[1] == alone.length[0]


def test_slower_and_pausing_hands_take_longer(expert_type):
    patient = type("Patient", (expert_type.task,), {"max_steps": 3 * expert_type.task.max_steps})
    steady, *others = (
        play(expert_type, style, range(2000, 2032), patient)[0]
        for style in (STEADY, replace(STEADY, speed=0.6), replace(STEADY, pause=1.5))
    )
    for other in others:
        both = steady.success & other.success
        assert both.mean() > 0.8
        assert np.median(other.length[both] / steady.length[both]) > 1.1


def test_noise_moves_the_hand_but_not_the_label(expert_type):
    task = expert_type.task(8)
    expert = expert_type(8, Style(noise=0.3))
    task.reset(task.starts(range(8)))
    moved, off = [], []
    for _ in range(15):
        action = expert.act(task.state)
        done = expert.slip(action)
        moved.append(np.linalg.norm((action - task.command) * task.weight, axis=1))
        off.append(np.linalg.norm((done - action) * task.weight, axis=1))
        task.step(done)
    moved, off = np.concatenate(moved), np.concatenate(off)
    assert off[moved > 0].mean() > 0.1 * moved[moved > 0].mean()
    still = expert_type(8, STEADY)
    action = still.act(task.state)
    assert np.array_equal(still.slip(action), action)


def test_grades_of_skill_are_in_order(expert_type):
    """Worse hands need longer, in the same 48 episodes, or do not succeed at all."""
    patient = type("Patient", (expert_type.task,), {"max_steps": 2 * expert_type.task.max_steps})
    lengths = []
    for skill in GRADES:
        task, _ = play(expert_type, graded(skill), range(3000, 3048), patient)
        lengths.append(np.where(task.success, task.length, task.max_steps).mean())
    assert lengths[0] < lengths[1] < lengths[2]
    with pytest.raises(UserError, match="unknown skill 'good'"):
        graded("good")


def test_every_mode_can_be_asked_for(expert_type):
    for mode in sorted({0, expert_type.n_modes - 1}):
        task, _ = play(expert_type, replace(STEADY, mode=mode), range(16))
        assert task.success.mean() >= 0.8
    with pytest.raises(UserError, match=rf"mode {expert_type.n_modes} does not exist"):
        expert_type(1, Style(mode=expert_type.n_modes))
    with pytest.raises(UserError, match="as many seeds"):
        expert_type(2, STEADY, [(0,)])


def test_recorded_demonstrations_are_what_was_meant(expert_type):
    episodes = expert_type.demonstrate(3, 5, STEADY)
    task = expert_type.task
    assert len(episodes) == 3 and episodes.meta["tried"] >= 3
    assert episodes["state"].shape[1] == len(task.state_names) and episodes["action"].dtype == np.float32
    assert episodes["action"].shape[1] == len(task.action_low)
    with pytest.raises(UserError, match="at least 1"):
        expert_type.demonstrate(0, 5, STEADY)


def test_a_hopeless_style_is_given_up(expert_type):
    with pytest.raises(UserError, match="choose a gentler style"):
        expert_type.demonstrate(1, 5, Style(speed=0.01))
