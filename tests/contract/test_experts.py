"""What every demonstrator promises: a controller that solves its task, from anywhere, repeatably, with its knobs."""

from dataclasses import replace

import numpy as np
import pytest

from ilbook import experts, tasks, used
from ilbook.control.base import Controller
from ilbook.errors import UserError
from ilbook.experts.base import GRADES, STEADY, Expert, Style, graded
from ilbook.rollout.evaluate import evaluate
from ilbook.rollout.play import play
from ilbook.rollout.record import demonstrate, record
from ilbook.tasks.simulation import Simulation

LIVELY = Style(noise=0.2, knock=0.01, pause=0.2, detour=0.3)


@pytest.fixture(params=experts.names())
def expert_type(request) -> type[Expert]:
    return experts.get(request.param)


def played(expert, starts, task=None, states=None, chances=None) -> tuple[Simulation, np.ndarray]:
    """The simulation after the expert's episodes with all slips, and the clean actions (T, N, A)."""
    sim = (task or expert.task).batch(len(starts))
    steps = play(sim, expert, list(starts), chances=chances, states=states)
    return sim, np.stack([step.decision.label for step in steps])


def patient(task, times: int):
    """The task with more time."""
    return replace(task, max_steps=times * task.max_steps)


def test_every_task_has_an_expert():
    assert experts.names() == tasks.names()
    assert all(experts.get(name).task == tasks.get(name)() for name in tasks.names())
    with pytest.raises(UserError, match="nearest valid name: 'pusht'"):
        experts.get("push")


def test_it_announces_itself(expert_type):
    for begin in (lambda: expert_type(), lambda: experts.get(expert_type.task.name)):
        with used.collected() as parts:
            begin()
        assert parts == {expert_type.__module__.removeprefix("ilbook.")}


def test_it_solves_random_starts(expert_type):
    sim, actions = played(expert_type(), range(1000, 1100))
    assert sim.success.mean() >= 0.95, f"failed starts: {1000 + np.flatnonzero(~sim.success)}"
    assert np.isfinite(actions).all()


def test_it_is_a_controller_like_any_other(expert_type):
    """`evaluate` judges it, and the table says what `play` did."""
    assert issubclass(expert_type, Controller) and expert_type.inputs == ("state",)
    starts = range(2000, 2012)
    one, two = (evaluate(expert_type.task, expert_type(LIVELY), starts, "hand") for _ in range(2))
    assert one.table.drop(columns="wall_seconds").equals(two.table.drop(columns="wall_seconds"))
    sim, _ = played(expert_type(LIVELY), starts)
    assert one.table["success"].tolist() == sim.success.tolist() and one.table["length"].tolist() == sim.length.tolist()
    assert one.table["score"].tolist() == sim.score.tolist() and set(one.table["policy"]) == {"hand"}
    assert all(np.array_equal(path[-1], state) for path, state in zip(one.states, sim.state, strict=True))


def test_it_can_take_over_anywhere(expert_type):
    """Also where somebody without a plan has led it, as long as nothing is lost there."""
    task, rng = expert_type.task, np.random.default_rng(0)
    sim = task.batch(64)
    sim.reset(task.starts(range(64)))
    for step in range(24):
        if step % 8 == 0:
            action = sim.command + 0.04 * rng.standard_normal(sim.command.shape) / task.weight
        sim.step(action)
    elsewhere = sim.state[~sim.done]
    taken, _ = played(expert_type(), range(len(elsewhere)), states=elsewhere)
    assert len(elsewhere) >= 32 and taken.success.mean() >= 0.9


def test_it_takes_over_in_the_middle_of_its_own_episodes(expert_type):
    """Some copies forget their plans, the others go on as they would have."""
    task, expert, few = expert_type.task, expert_type(LIVELY), np.array([2])
    sim, other = task.batch(4), expert_type(LIVELY)
    steps = play(sim, expert, range(4))
    for _ in range(12):
        next(steps)
    kept, known = sim.save(), expert.save()
    sim.reset(task.starts([77]), few)
    expert.take_over(sim.state[few], few)
    undisturbed = task.batch(4)
    undisturbed.restore(kept)
    other.restore(known)
    for _ in range(10):
        alive = ~sim.done & ~undisturbed.done
        ours, theirs = expert.decide(sim, ~sim.done), other.decide(undisturbed, ~undisturbed.done)
        for a, b in ((ours.label, theirs.label), (ours.action, theirs.action)):
            assert np.array_equal(a[[0, 1, 3]][alive[[0, 1, 3]]], b[[0, 1, 3]][alive[[0, 1, 3]]])
        sim.step(ours.action)
        undisturbed.step(theirs.action)
    assert sim.length[2] == 10 and not np.array_equal(sim.state[2], undisturbed.state[2])


def test_same_seeds_same_demonstration(expert_type):
    chances = [(3, k) for k in range(4)]
    (one, first), (two, second) = (played(expert_type(LIVELY), range(4), chances=chances) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(one.state, two.state)
    expert = expert_type(LIVELY)
    played(expert, range(8, 12))
    assert np.array_equal(played(expert, range(4), chances=chances)[1], first), "a used one is as good as a new one"
    _, third = played(expert_type(LIVELY), range(4), chances=[(4, k) for k in range(4)])
    assert first.shape != third.shape or not np.array_equal(first, third)


def test_a_copy_does_not_depend_on_the_others(expert_type):
    batch, _ = played(expert_type(LIVELY), range(3), chances=[(3, k) for k in range(3)])
    alone, _ = played(expert_type(LIVELY), [1], chances=[(3, 1)])
    assert np.array_equal(batch.state[1], alone.state[0]) and batch.length[1] == alone.length[0]


def test_copies_begin_again_on_their_own(expert_type):
    """In a stream of starts, each episode is the one that its seed gives, whenever and wherever it begins."""
    sim, lengths = expert_type.task.batch(2), {}
    for step in play(sim, expert_type(LIVELY), [0, 1], refill=iter([2, 3, 4])):
        for i in np.flatnonzero(step.finished):
            lengths[step.seeds[i]] = int(sim.length[i])
    alone, _ = played(expert_type(LIVELY), range(5))
    assert lengths == dict(enumerate(alone.length.tolist()))


def test_it_goes_on_from_where_it_was_saved(expert_type):
    sim, expert = expert_type.task.batch(3), expert_type(LIVELY)
    for _, step in zip(range(14), play(sim, expert, [5, 6, 7]), strict=False):
        assert step.alive.any()
    world, knows = sim.save(), expert.save()

    def goes_on(one: Expert) -> list[np.ndarray]:
        sim.restore(world)
        one.restore(knows)
        done = []
        for _ in range(12):
            decision = one.decide(sim, ~sim.done)
            done += [decision.action, decision.label]
            sim.step(decision.action)
        one.take_over(sim.state, np.arange(3))  # with the plans that it has, and the chance that it has left
        decision = one.decide(sim, ~sim.done)
        return [*done, decision.action]

    first, again, other = goes_on(expert), goes_on(expert), goes_on(expert_type(LIVELY))
    assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(first, again, other, strict=True))


def test_an_expert_that_was_never_reset_says_so(expert_type):
    sim = expert_type.task.batch(2)
    sim.reset(sim.task.starts([0, 1]))
    with pytest.raises(UserError, match=f"{expert_type.__name__} was never reset and is asked for 2 copies"):
        expert_type().decide(sim, ~sim.done)
    expert = expert_type()
    expert.reset([0])
    with pytest.raises(UserError, match=f"{expert_type.__name__} was reset for 1 copies and is asked for 2 copies"):
        expert.decide(sim, ~sim.done)
    with pytest.raises(UserError, match="1 seeds for 2 copies"):
        next(play(sim, expert, [0]))


def test_slower_and_pausing_hands_take_longer(expert_type):
    steady, *others = (
        played(expert_type(style), range(2000, 2024), patient(expert_type.task, 3))[0]
        for style in (STEADY, replace(STEADY, speed=0.6), replace(STEADY, pause=1.5))
    )
    for other in others:
        both = steady.success & other.success
        assert both.mean() > 0.8
        assert np.median(other.length[both] / steady.length[both]) > 1.1


def test_noise_moves_the_hand_but_not_the_label(expert_type):
    """What is executed is the label and the slip, nothing else; a steady hand does what it means."""
    task = expert_type.task
    for style in (Style(noise=0.3), LIVELY, STEADY):
        sim, expert, moved, off = task.batch(8), expert_type(style), [], []
        sim.reset(task.starts(range(8)))
        expert.reset(range(8))
        for _ in range(15):
            before, command, alive = expert.save(), sim.command.copy(), ~sim.done
            decision = expert.decide(sim, alive)
            after = expert.save()
            expert.restore(before)
            expert.request(sim.see(["state"]), np.arange(8))
            expert._alive = alive
            assert np.array_equal(expert.act(sim.state)[alive], decision.label[alive])
            assert np.array_equal(expert.slip(decision.label)[alive], decision.action[alive])
            expert.restore(after)
            moved.append(np.linalg.norm((decision.label - command) * task.weight, axis=1)[alive])
            off.append(np.linalg.norm((decision.action - decision.label) * task.weight, axis=1)[alive])
            sim.step(decision.action)
        moved, off = np.concatenate(moved), np.concatenate(off)
        if style == STEADY:
            assert not off.any()
        else:
            assert off[moved > 0].mean() > 0.1 * moved[moved > 0].mean()
        if not style.knock:
            assert not off[moved == 0].any(), "a hand at rest does not slip"


def test_slips_have_the_size_that_the_style_says(expert_type):
    """In proportion to the distance moved, as large as `noise` says, and much the same from one step to the next."""
    n, task, style = 1500, expert_type.task, Style(noise=0.2)
    share = getattr(expert_type, "slip_share", 1.0)
    expert = expert_type(style)
    expert.reset(range(n))
    label = np.tile(task.start(np.random.default_rng(0))[-len(task.action_low) :], (n, 1))
    expert._moved = np.linspace(0, 1, n) * share
    slips = []
    for _ in range(30):
        slips.append((expert.slip(label) - label) * task.weight)
    last, before = slips[-1][1:] / np.linspace(0, 1, n)[1:, None], slips[-2][1:] / np.linspace(0, 1, n)[1:, None]
    assert last.std() == pytest.approx(0.2 * share, rel=0.06) and not slips[-1][0].any()
    assert np.corrcoef(last.ravel(), before.ravel())[0, 1] == pytest.approx(style.memory, abs=0.04)


def test_knocks_are_rare_and_last_some_steps(expert_type):
    n, task = 500, expert_type.task
    expert = expert_type(Style(noise=0.0, knock=0.02))
    expert.reset(range(n))
    label = np.zeros((n, len(task.action_low)))
    aside = np.stack([np.linalg.norm(expert.slip(label) * task.weight, axis=1) for _ in range(200)])
    knocked = aside > 0
    assert aside[knocked] == pytest.approx(expert_type.knock_size)
    begins = knocked[1:] & ~knocked[:-1]
    assert begins.sum() / (~knocked[:-1]).sum() == pytest.approx(0.02, rel=0.15)
    lengths = knocked.sum() / (begins.sum() + knocked[0].sum())
    assert 3 <= lengths <= 6


def test_what_is_recorded_is_what_was_meant(expert_type):
    """The label in `action`, what the hand did in `executed`."""
    task, seeds = expert_type.task, [(3, k) for k in range(3)]
    episodes = record(task, expert_type(LIVELY), seeds)
    sim, expert = task.batch(3), expert_type(LIVELY)
    for t, step in enumerate(play(sim, expert, seeds)):
        for i in np.flatnonzero(step.alive):
            row = episodes.episode_ends[i] - sim.length[i] if step.finished[i] else None
            if row is not None:
                assert t + 1 == sim.length[i] == episodes.lengths[i]
            first = int(episodes.episode_ends[i] - episodes.lengths[i])
            for name, value in (("action", step.decision.label), ("executed", step.decision.action)):
                assert np.array_equal(episodes[name][first + t], value[i].astype(np.float32))
    assert not np.array_equal(episodes["action"], episodes["executed"])


def test_grades_of_skill_are_in_order(expert_type):
    """Worse hands need longer, in the same 32 episodes, or do not succeed at all."""
    lengths = []
    for skill in GRADES:
        sim, _ = played(expert_type(graded(skill)), range(3000, 3032), patient(expert_type.task, 2))
        lengths.append(np.where(sim.success, sim.length, sim.task.max_steps).mean())
    assert lengths[0] < lengths[1] < lengths[2]
    with pytest.raises(UserError, match="unknown skill 'good'"):
        graded("good")


def test_every_mode_can_be_asked_for(expert_type):
    for mode in sorted({0, expert_type.n_modes - 1}):
        sim, _ = played(expert_type(replace(STEADY, mode=mode)), range(16))
        assert sim.success.mean() >= 0.8
    with pytest.raises(UserError, match=rf"mode {expert_type.n_modes} does not exist"):
        expert_type(Style(mode=expert_type.n_modes))


def test_demonstrations_are_successes_of_the_stricter_task(expert_type):
    episodes = demonstrate(expert_type, 3, 5, STEADY)
    task = expert_type.demo_task
    assert type(task) is type(expert_type.task) and task.name == expert_type.task.name
    assert len(episodes) == 3 and episodes.meta["tried"] >= 3 and (episodes.lengths <= task.max_steps).all()
    assert episodes["state"].shape[1] == len(task.state_names) and episodes["action"].dtype == np.float32
    assert episodes["action"].shape[1] == len(task.action_low)
    with pytest.raises(UserError, match="at least 1"):
        demonstrate(expert_type, 0, 5, STEADY)


def test_a_hopeless_style_is_given_up(expert_type):
    with pytest.raises(UserError, match="choose a gentler style"):
        demonstrate(expert_type, 1, 5, Style(speed=0.01), patience=0.1)
