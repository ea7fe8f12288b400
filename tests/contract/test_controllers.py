"""What every controller promises, shown with policies of all kinds and with an expert: copies do not know of each
other, nobody is asked in vain, and a pause, a late answer or an onlooker changes no number.
"""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from ilbook.control.base import Controller
from ilbook.control.receding import ROWS, RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.experts.avoid import AvoidExpert
from ilbook.experts.base import graded
from ilbook.policies.base import Policy
from ilbook.policies.bc import MLPPolicy
from ilbook.rollout.evaluate import evaluate
from ilbook.rollout.play import play
from ilbook.tasks.avoid import Avoid
from tests.contract.small import Gaussian, Recurrent, Streaming

TASK = Avoid(max_steps=40)
SEEDS = list(range(16))


def policy(kind: type[Policy], n_obs: int = 1, horizon: int = 8, n_past: int = 2) -> Policy:
    """An untrained policy that goes upwards and aside: some of its episodes end early, at an obstacle."""
    torch.manual_seed(0)
    made = kind(4, 2, Windows(n_obs, horizon, n_past), relative_to=(0, 1))
    made.normalisers["obs"].fit(np.array([[0.4, -0.3] * 2, [0.6, 0.3] * 2]))
    made.action_normaliser.scale.fill_(0.03)
    made.action_normaliser.centre.copy_(torch.tensor([[0.0, 0.012]]) * torch.arange(1, horizon + 1)[:, None])
    made.action_normaliser.fitted.fill_(True)
    return made.eval()


@dataclass(frozen=True)
class Case:
    """A controller, made anew for each test."""

    kind: type[Policy] | None
    n_obs: int = 1
    n_exec: int | None = None
    delay: int = 0
    promise: bool = False

    def make(self) -> Controller:
        if self.kind is None:
            return AvoidExpert(graded("worse"))
        return RecedingHorizon(policy(self.kind, self.n_obs), self.n_exec, 3, self.delay, self.promise)


CASES = {
    "plain": Case(MLPPolicy, n_exec=1),
    "three looks": Case(MLPPolicy, 3, 4),
    "noise": Case(Gaussian, 3, 2),
    "recurrent": Case(Recurrent, 1, 3),
    "recurrent, three looks": Case(Recurrent, 3, 2),
    "streaming": Case(Streaming),
    "late": Case(MLPPolicy, 3, 4, delay=2),
    "late, at once": Case(Recurrent, 1, 1, delay=2),
    "late, noise, promise": Case(Gaussian, 1, 3, delay=3, promise=True),
    "expert": Case(None),
}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def make(request):
    return request.param.make


def trace(controller, seeds, refill=None, following=False, camera=None) -> dict[int, np.ndarray]:
    """Per start: each step's state before, action, label and state after."""
    rows = defaultdict(list)
    for step in play(TASK.batch(len(seeds)), controller, seeds, refill, camera):
        if following:
            step.following()
        after, decision = step.sim.state, step.decision
        for i in np.flatnonzero(step.alive):
            rows[step.seeds[i]].append(np.concatenate([step.state[i], decision.action[i], decision.label[i], after[i]]))
    return {seed: np.stack(episode) for seed, episode in rows.items()}


def assert_same(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> None:
    for seed in one.keys() & other.keys():
        assert one[seed].shape == other[seed].shape and np.array_equal(one[seed], other[seed]), f"start {seed} differs"


@pytest.fixture
def whole(make):
    return trace(make(), SEEDS)


def test_an_episode_follows_from_its_start_whatever_else_is_in_its_batch(make, whole):
    assert len({len(episode) for episode in whole.values()}) > 1  # they end at different times
    for seed in (3, 12):
        assert_same(whole, trace(make(), [seed]))
    assert_same(whole, trace(make(), [9, 3, 5, 40, 12]))  # elsewhere, beside others
    assert_same(trace(make(), SEEDS[:3]), whole)


def test_a_copy_that_begins_anew_has_no_past(make, whole):
    refilled = trace(make(), SEEDS[:5], refill=iter(SEEDS[5:]))
    assert sorted(refilled) == SEEDS
    assert_same(whole, refilled)


def test_asking_what_follows_changes_no_number(make, whole):
    assert_same(whole, trace(make(), SEEDS, following=True))
    refilled = trace(make(), SEEDS[:5], refill=iter(SEEDS[5:]), following=True)
    assert sorted(refilled) == SEEDS
    assert_same(whole, refilled)


def test_what_follows_is_what_is_done_next(make):
    promised, goes_on = np.zeros((6, 2)), np.zeros(6, dtype=bool)
    for step in play(TASK.batch(6), make(), SEEDS[:6], refill=iter(SEEDS[6:10])):
        assert np.array_equal(promised[goes_on], step.decision.action[goes_on])
        promised, goes_on = step.following().action, step.alive & ~step.finished
        assert promised.shape == (6, 2) and np.isfinite(promised[step.alive]).all()


@pytest.mark.parametrize("kind", [MLPPolicy, Gaussian])
def test_chance_comes_from_the_seeds_of_controller_and_copy(kind):
    one, same, other = (trace(RecedingHorizon(policy(kind), 2, seed), SEEDS[:2]) for seed in (3, 3, 4))
    assert_same(one, same)
    assert np.array_equal(one[1][4, 4:6], other[1][4, 4:6]) == (kind is MLPPolicy)


def run(sim, controller, steps: int) -> np.ndarray:
    rows = []
    for _ in range(steps):
        decision = controller.decide(sim, ~sim.done)
        sim.step(decision.action)
        rows.append(np.concatenate([decision.action, sim.state], axis=1))
    return np.stack(rows)


def test_it_goes_on_from_what_was_saved(make):
    """Together with the simulation's own state, in other objects too."""
    sim, controller = TASK.batch(4), make()
    sim.reset(TASK.starts(SEEDS[:4]))
    controller.reset(SEEDS[:4])
    run(sim, controller, 7)
    kept = sim.save(), controller.save()
    first = run(sim, controller, 12)
    others = TASK.batch(4), make()
    others[1].reset([7, 7, 7, 7])
    for sim_, controller_ in ((sim, controller), others):
        sim_.restore(kept[0])
        controller_.restore(kept[1])
        assert np.array_equal(run(sim_, controller_, 12), first)


class Watch(Controller):
    """Looks on: the controller inside drives, a score is drawn from a stream of its own."""

    def __init__(self, inner: Controller):
        super().__init__(seed=99)
        self._inner = inner
        self.inputs, self.columns = inner.inputs, inner.columns

    def reset(self, seeds, copies=None):
        super().reset(seeds, copies)
        self._inner.reset(seeds, copies)

    def decide(self, world, alive):
        score = np.stack([generator.random(3) for generator in self._generators])
        decision = self._inner.decide(world, alive)
        return replace(decision, more={"score": score})

    def _begin(self, copies, everything): ...

    request = deliver = action = None


def test_watched_episodes_are_the_same(make, whole):
    assert_same(whole, trace(Watch(make()), SEEDS))
    assert_same(whole, trace(Watch(make()), SEEDS[:5], refill=iter(SEEDS[5:]), following=True))


def test_it_must_be_reset_for_the_copies_that_it_is_asked_for(make):
    sim, controller = TASK.batch(4), make()
    sim.reset(TASK.starts(SEEDS[:4]))
    name = type(controller).__name__
    with pytest.raises(UserError, match=f"{name} was never reset and is asked for 4 copies; reset it first"):
        controller.decide(sim, ~sim.done)
    with pytest.raises(UserError, match=f"{name} was never reset and is asked for copy 2"):
        controller.reset([5], np.array([2]))
    controller.reset(SEEDS[:3])
    with pytest.raises(UserError, match=f"{name} was reset for 3 copies and is asked for 4 copies"):
        controller.decide(sim, ~sim.done)
    with pytest.raises(UserError, match=f"{name} was reset for 3 copies and is asked for copy 3"):
        controller.reset([5], np.array([3]))
    controller.reset(SEEDS[:5])
    with pytest.raises(UserError, match=f"{name} was reset for 5 copies and is asked for 4 copies"):
        controller.decide(sim, ~sim.done)


# -- what it costs ----------------------------------------------------------------------------------------------------
class Looks:
    """A simulation that counts who is looked at."""

    def __init__(self, sim):
        self._sim, self.looked = sim, []

    def __getattr__(self, name):
        return getattr(self._sim, name)

    def see(self, inputs, copies=None):
        self.looked.append(copies)
        return self._sim.see(inputs, copies)


def counted(controller, monkeypatch) -> list[int]:
    """Rows of each call of the policy."""
    calls, plan = [], controller.policy.plan

    def counting(obs, *rest):
        calls.append(len(obs["obs"]))
        return plan(obs, *rest)

    monkeypatch.setattr(controller.policy, "plan", counting)
    return calls


@pytest.mark.parametrize("refill", [False, True])
@pytest.mark.parametrize("n_obs", [1, 2])
def test_nobody_is_asked_in_vain(monkeypatch, n_obs, refill):
    """A copy looks in the step where it replans, and in those before that are in its window; who is done, never."""
    controller = RecedingHorizon(policy(MLPPolicy, n_obs), n_exec=4)
    calls = counted(controller, monkeypatch)
    sim, replans, lengths, looks, clock = Looks(TASK.batch(16)), [], [], 0, np.zeros(16, dtype=int)
    for step in play(sim, controller, SEEDS, iter(range(16, 40)) if refill else None):
        assert np.array_equal(step.decision.asked[step.alive], (clock % 4 == 0)[step.alive])
        assert not step.decision.asked[~step.alive].any()
        due = step.alive & ((clock % 4 == 0) | ((n_obs == 2) & (clock % 4 == 3)))
        looks += due.sum()
        replans.append(int(step.decision.asked.sum()))
        lengths += sim.length[step.finished].tolist()
        clock = np.where(step.finished, 0, clock + 1)
    assert sum(map(len, sim.looked)) == looks
    replans = [n for n in replans if n]
    assert calls == [-(-n // ROWS) * ROWS for n in replans]
    assert sum(replans) == sum(-(-length // 4) for length in lengths) and len(lengths) == (40 if refill else 16)


class Seeing(MLPPolicy):
    """Looks at pictures and sees nothing in them."""

    def __init__(self, n_obs):
        super().__init__(4, 2, Windows(n_obs, 8))
        self.inputs["image"] = (96, 96, 3)


def test_pictures_are_drawn_of_those_who_look(monkeypatch):
    drawn = []

    def render(self, states, size=96, nice=False):
        drawn.append(len(states))
        return np.zeros((len(states), size, size, 3), np.uint8)

    monkeypatch.setattr(Avoid, "render", render)
    controller = RecedingHorizon(Seeing(2), n_exec=4)
    sim, looks, clock = TASK.batch(3), 0, 0
    sim.reset(TASK.starts(SEEDS[:3]))
    controller.reset(SEEDS[:3])
    sim.failure[1] = True  # ended
    for clock in range(9):
        decision = controller.decide(sim, ~sim.done)
        looks += 2 * (clock % 4 in (0, 3))
        assert decision.asked.tolist() == [clock % 4 == 0, False, clock % 4 == 0]
        assert (decision.window is None) == (clock % 4 != 0)
    assert sum(drawn) == looks and decision.window["image"].shape == (2, 2, 96, 96, 3)


# -- what else drives -------------------------------------------------------------------------------------------------
def test_an_expert_is_a_controller():
    table = evaluate(Avoid(), AvoidExpert(), range(50), "expert").table
    assert table["success"].mean() >= 0.95 and len(table) == 50
    labels = trace(AvoidExpert(graded("worse")), SEEDS)[3]
    assert not np.array_equal(labels[:, 4:6], labels[:, 6:8])  # it slips, and says what was meant


def test_a_guide_may_use_gradients_inside_a_controller():
    class Pushed(Gaussian):
        def plan(self, obs, noise, promise, memory, fresh):
            def guide(x, level, clean):
                with torch.enable_grad():
                    x = x.detach().requires_grad_()
                    cost = (self.denoise(x, level, obs)[..., 0] - 1).square().sum()
                    return clean - 0.5 * torch.autograd.grad(cost, x)[0]

            return replace(super().plan(obs, noise, promise, memory, fresh), chunk=self.to_actions(
                obs, self.sample(obs, noise, guide=guide)))  # fmt: skip

    free, pushed = (trace(RecedingHorizon(policy(kind), 4), SEEDS[:3]) for kind in (Gaussian, Pushed))
    assert all(pushed[seed][5, 4] > free[seed][5, 4] for seed in SEEDS[:3])
