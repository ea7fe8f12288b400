"""Receding horizon: which action of which chunk is executed when, what the policy is told, and what a delay does."""

import numpy as np
import pytest
import torch

from ilbook.control.receding import RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.policies.base import Plan, Policy
from ilbook.policies.bc import MLPPolicy
from ilbook.rollout.play import play
from ilbook.tasks.avoid import Avoid
from tests.contract.small import Gaussian


class Counting(Policy):
    """Chunks whose numbers tell where they come from: (first obs of the window, calls so far + index in the chunk)."""

    def __init__(self, n_obs: int = 1, horizon: int = 4, n_past: int = 0, noise: float = 0.0):
        inputs = {"obs": (1,)} | ({"action": (2,)} if n_past else {})
        super().__init__(inputs, 2, Windows(n_obs, horizon, n_past))
        self.noise, self.noise_shape = noise, (horizon, 2) if noise else None
        self.calls: list[dict] = []

    def loss(self, batch, generator=None):
        raise NotImplementedError

    def plan(self, obs, noise, promise, memory, fresh):
        self.calls.append({"obs": obs, "promise": promise, "fresh": fresh})
        index = 100.0 * len(self.calls) + torch.arange(self.windows.horizon)
        chunk = torch.stack([obs["obs"][:, :1, 0].expand(-1, len(index)), index.expand(len(fresh), -1)], dim=-1)
        return Plan(chunk if noise is None else chunk + self.noise * noise)

    def seen(self) -> list[list[float]]:
        """What copy 0 saw at each call."""
        return [call["obs"]["obs"][0, :, 0].tolist() for call in self.calls]


class World:
    """Observations count steps and tell the copies apart; what is executed becomes the command."""

    def __init__(self, n_copies: int = 2):
        self.time, self.n_copies, self.command = 0, n_copies, np.full((n_copies, 2), -1.0)

    def see(self, inputs, copies):
        return {"obs": self.time + 0.5 * copies[:, None]}


def drive(controller, steps: int, world: World | None = None, begin: bool = True) -> np.ndarray:
    """Actions (T, N, A)."""
    world, actions = world or World(), []
    if begin:
        controller.reset(range(world.n_copies))
    for _ in range(steps):
        world.command = controller.decide(world, np.ones(world.n_copies, dtype=bool)).action
        world.time += 1
        actions.append(world.command)
    return np.stack(actions)


def test_each_chunk_is_executed_up_to_n_exec():
    actions = drive(RecedingHorizon(Counting(), n_exec=3), 8)
    assert actions.shape == (8, 2, 2) and actions.dtype == np.float64
    assert actions[:, 0, 1].tolist() == [100, 101, 102, 200, 201, 202, 300, 301]
    assert actions[:, 0, 0].tolist() == [0, 0, 0, 3, 3, 3, 6, 6]
    assert np.array_equal(actions[:, 1, 0], actions[:, 0, 0] + 0.5)


@pytest.mark.parametrize(("horizon", "n_exec", "calls"), [(4, None, 3), (4, 4, 3), (4, 1, 12), (1, None, 12)])
def test_the_policy_is_asked_when_its_actions_are_used_up(horizon, n_exec, calls):
    policy = Counting(1, horizon)
    drive(RecedingHorizon(policy, n_exec), 12)
    assert len(policy.calls) == calls


def test_the_first_observation_fills_the_window():
    policy = Counting(n_obs=3, horizon=2)
    drive(RecedingHorizon(policy, n_exec=1), 4)
    assert policy.seen() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    drive(RecedingHorizon(policy, n_exec=2), 3)
    assert policy.seen()[4:] == [[0, 0, 0], [0, 1, 2]]
    assert policy.calls[0]["obs"]["obs"].shape == (16, 3, 1) and policy.calls[0]["obs"]["obs"].dtype == torch.float32


def test_a_long_stretch_without_looks_leaves_no_gap_in_the_window():
    policy = Counting(n_obs=2, horizon=8)
    drive(RecedingHorizon(policy, n_exec=8), 17)
    assert policy.seen() == [[0, 0], [7, 8], [15, 16]]


def test_reset_forgets_the_past():
    policy = Counting(n_obs=2, horizon=4)
    controller, world = RecedingHorizon(policy), World(3)
    drive(controller, 2)
    world.time = 9
    assert drive(controller, 1, world).shape == (1, 3, 2)  # another number of copies
    assert policy.seen()[-1] == [9, 9]
    controller.reset([8], np.array([1]))
    world.time = 10
    drive(controller, 1, world, begin=False)
    assert policy.seen()[-1] == [10.5, 10.5] and len(policy.calls) == 3  # copy 1 alone, from nothing
    assert policy.calls[-1]["fresh"].all()


def test_noise_depends_on_the_seeds_alone():
    controllers = [RecedingHorizon(Counting(1, 2, noise=1.0), seed=seed) for seed in (1, 1, 2)]
    first, same, other = (drive(controller, 6) for controller in controllers)
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    controllers[0].policy.calls.clear()
    assert np.array_equal(drive(controllers[0], 6), first)


def test_executed_actions_are_seen_again():
    policy = Counting(n_past=3)
    actions = drive(RecedingHorizon(policy, n_exec=2), 5)
    valid = [call["obs"]["action_valid"][0].tolist() for call in policy.calls]
    assert valid == [[False] * 3, [False, True, True], [True] * 3]
    past = policy.calls[2]["obs"]["action"][:2].numpy()
    assert np.array_equal(past, actions[1:4].transpose(1, 0, 2))
    assert not policy.calls[0]["obs"]["action"].any()


class Remembering(Counting):
    """Remembers what it saw first, and how often it has looked; says both."""

    memory_shapes = {"first": (1,), "looks": ()}  # noqa: RUF012

    def plan(self, obs, noise, promise, memory, fresh):
        first = torch.where(fresh[:, None], obs["obs"][:, -1], memory["first"])
        looks = torch.where(fresh, 0.0, memory["looks"]) + 1
        chunk = torch.stack([first[:, 0], looks], dim=1)[:, None].expand(-1, self.windows.horizon, -1)
        return Plan(chunk, {"first": first, "looks": looks})


@pytest.mark.parametrize("delay", [0, 1])
def test_each_copy_keeps_its_own_memory(delay):
    """Also where the answer is handed in for a part of those who asked, because the others have begun anew."""
    controller, world = RecedingHorizon(Remembering(), n_exec=2, delay=delay), World(3)
    drive(controller, 3, world)  # the second question is asked in the third step
    controller.reset([9], np.array([0]))
    actions = drive(controller, 5, world, begin=False)
    assert actions[-1].tolist() == [[3.0, 3 - delay], [0.5, 4.0], [1.0, 4.0]]
    assert actions[delay, 1:].tolist() == [[0.5, 2.0], [1.0, 2.0]]


def test_what_was_decided_stays_as_it_was():
    controller, world = RecedingHorizon(Counting(), n_exec=1), World()
    controller.reset([0, 1])
    alive = np.ones(2, dtype=bool)
    first = controller.decide(world, alive)
    kept = first.chunk.copy(), first.asked.copy(), first.window["obs"].copy()
    world.time = 5
    second = controller.decide(world, alive)
    assert all(map(np.array_equal, (first.chunk, first.asked, first.window["obs"]), kept))
    assert not np.array_equal(first.chunk, second.chunk)


# -- delays -----------------------------------------------------------------------------------------------------------
def test_a_late_answer_loses_its_first_actions():
    """Who has no plan holds its command; then the old chunk goes on until the answer is in."""
    actions = drive(RecedingHorizon(Counting(horizon=8), n_exec=4, delay=2), 13)[:, 0]
    assert actions[:, 1].tolist() == [-1, -1, 102, 103, 104, 105, 202, 203, 204, 205, 302, 303, 304]
    assert actions[:, 0].tolist() == [-1, -1, 0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8]


def test_answers_arrive_before_the_next_question():
    """With n_exec <= delay the next question falls into the step of the answer: nobody waits in between."""
    actions = drive(RecedingHorizon(Counting(), n_exec=1, delay=2), 9)[:, 0, 1]
    assert actions.tolist() == [-1, -1, 102, 103, 202, 203, 302, 303, 402]
    controller = RecedingHorizon(Counting(), delay=1)
    assert controller.columns == {"horizon": 4, "n_exec": 3, "delay": 1}
    assert drive(controller, 8)[:, 0, 1].tolist() == [-1, 101, 102, 103, 201, 202, 203, 301]


@pytest.mark.parametrize(("n_exec", "delay"), [(3, 2), (2, 3)])
def test_a_promise_is_what_will_be_executed(n_exec, delay):
    policy = Counting(horizon=8)
    actions = drive(RecedingHorizon(policy, n_exec, delay=delay, promise=True), 20)
    every = max(n_exec, delay)
    for k, call in enumerate(policy.calls[:-1]):
        action, weight = (part[:2].numpy() for part in call["promise"])
        assert action.shape == (2, 8, 2) and action.dtype == weight.dtype == np.float32
        if k == 0:
            assert not weight.any()  # no plan yet
            continue
        assert weight.tolist() == [[1.0] * delay + [0.0] * (8 - delay)] * 2
        asked = every * k
        assert np.array_equal(action[:, :delay], actions[asked : asked + delay].transpose(1, 0, 2))


def test_a_robot_may_call_the_same_methods_in_its_own_time():
    """What takes two steps by hand is what a delay of two steps simulates."""
    torch.manual_seed(0)
    policy = Gaussian(4, 2, Windows(2, 8), relative_to=(0, 1)).eval()
    policy.action_normaliser.scale.fill_(0.05)
    simulated, task = RecedingHorizon(policy, 3, delay=2, promise=True), Avoid(max_steps=25)
    wanted = np.stack([step.decision.action for step in play(task.batch(2), simulated, [4, 5])])
    controller, sim, under_way, actions = RecedingHorizon(policy, 3, delay=2, promise=True), task.batch(2), [], []
    sim.reset(task.starts([4, 5]))
    controller.reset([4, 5])
    alive = np.ones(2, dtype=bool)
    for now in range(25):
        if under_way and now - under_way[0][0] == 2:
            _, question, answer = under_way.pop()
            controller.deliver(question, answer, late=2)
        copies = np.flatnonzero(controller.asks(alive))
        if len(copies) and (question := controller.request(sim.see(controller.inputs, copies), copies)):
            under_way.append((now, question, controller.answer(question)))
        actions.append(controller.action(alive, sim.command).action)
        sim.step(actions[-1])
    assert np.array_equal(np.stack(actions), wanted)


def test_an_answer_that_comes_too_late_finds_the_old_chunk_going_on():
    controller, world, alive = RecedingHorizon(Counting(horizon=6), n_exec=2), World(1), np.ones(1, dtype=bool)
    controller.reset([0])
    actions, waiting = [], None
    for now in range(10):
        copies = np.flatnonzero(controller.asks(alive))
        question = controller.request(world.see(["obs"], copies), copies) if len(copies) else None
        if question is not None:
            assert waiting is None  # no second question before the answer to the first
            waiting = now, question, controller.answer(question)
        if waiting and now - waiting[0] == (0 if not now else 5):
            controller.deliver(*waiting[1:], late=now - waiting[0])
            waiting = None
        world.command = controller.action(alive, world.command).action
        world.time += 1
        actions.append(world.command[0, 1])
    assert actions == [100, 101, 102, 103, 104, 105, 105, 205, 205, 205]


def test_an_answer_for_an_episode_that_is_over_is_dropped():
    policy = Counting(horizon=6)
    controller, world = RecedingHorizon(policy, n_exec=3, delay=2), World()
    drive(controller, 1, world)
    controller.reset([7], np.array([1]))  # while its answer is under way
    actions = drive(controller, 4, world, begin=False)
    assert actions[:, 0, 1].tolist() == [-1, 102, 103, 104]
    assert actions[:, 1, 1].tolist() == [-1, -1, 202, 203]


# -- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_exec", [0, 5, -1])
def test_n_exec_must_fit_the_chunk(n_exec):
    with pytest.raises(UserError, match=f"n_exec is {n_exec}; this policy predicts 4 actions, so 1 to 4"):
        RecedingHorizon(Counting(), n_exec)


@pytest.mark.parametrize(("n_exec", "delay"), [(3, 2), (None, 3), (1, 4), (2, -1)])
def test_delays_must_leave_actions(n_exec, delay):
    with pytest.raises(UserError, match=f"delay is {delay} and n_exec .; of 4 predicted actions none would be left"):
        RecedingHorizon(Counting(), n_exec, delay=delay)


def test_a_stride_is_binding():
    policy = Counting()
    policy.stride = 2
    assert RecedingHorizon(policy).n_exec == RecedingHorizon(policy, 2).n_exec == 2
    with pytest.raises(UserError, match="Counting dictates that 2 actions are executed, not 3; leave n_exec out"):
        RecedingHorizon(policy, 3)


def test_a_policy_for_another_task_is_named():
    for inputs, size, words in (
        ({"obs": (18,)}, 2, r"'obs' of shape \(16, 1, 18\) and got one of shape \(16, 1, 4\)"),
        ({"obs": (4,)}, 3, "Other gives 3 targets and this task takes 2"),
        ({"wrist": (4,)}, 2, "unknown input that avoid can show 'wrist'"),
    ):
        other = type("Other", (MLPPolicy,), {})(4, size, Windows())
        other.inputs = inputs
        with pytest.raises(UserError, match=words):
            next(play(Avoid().batch(1), RecedingHorizon(other), [0]))
