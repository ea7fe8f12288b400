"""The one training loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.learning.batches import WindowBatches
from ilbook.learning.fit import Training, fit, rate
from ilbook.policies.base import Plan, Policy


class Line(Policy):
    """A linear policy: its loss is a quadratic whose minimum is known."""

    def __init__(self, windows: Windows | None = None):
        super().__init__({"obs": (3,)}, 2, windows or Windows())
        self.net = nn.Linear(3, 2)
        self.seen = []

    def loss(self, batch, generator=None):
        assert self.training
        self.seen.append(batch)
        output = self.net(self.normalisers["obs"](batch.obs["obs"]))
        return (output - self.action_normaliser(batch.action)).square().mean()

    def plan(self, obs, noise, promise, memory, fresh):
        return Plan(self.action_normaliser.inverse(self.net(self.normalisers["obs"](obs["obs"]))))


def line(seed: int = 0, windows: Windows | None = None) -> Line:
    torch.manual_seed(seed)
    return Line(windows)


def train(policy: Policy, data, settings: Training, seed: int = 0, **more):
    """The history of a training."""
    *_, last = fit(policy, data, settings, seed, **more)
    return last.history


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (60, 3)).astype(np.float32)
    return Episodes({"obs": obs, "action": obs @ rng.standard_normal((3, 2)).astype(np.float32)}, np.array([25, 60]))


def test_rate_warms_up_and_decays_to_zero():
    settings = Training(steps=1000, learning_rate=0.01, warm_up=100)
    rates = np.array([rate(step, settings) for step in range(1001)])
    np.testing.assert_allclose(np.diff(rates[:100]), 1e-4)
    assert rates[99] == rates[100] == rates.max() == 0.01
    assert (np.diff(rates[100:]) < 0).all()
    assert rates[550] == pytest.approx(0.005) and rates[1000] == pytest.approx(0, abs=1e-12)


def test_rate_of_a_training_shorter_than_its_warm_up():
    assert all(math.isfinite(rate(step, Training(steps=5, warm_up=100))) for step in range(5))


def test_a_linear_rule_is_learnt(episodes):
    policy = line()
    history = train(policy, episodes, Training(steps=600, batch=32, learning_rate=0.03, weight_decay=0.0))
    assert history["loss"][-1] < 1e-4 * history["loss"][0]
    predicted = policy.act({"obs": torch.tensor(episodes["obs"])[:, None]}).chunk[:, 0].detach().numpy()
    np.testing.assert_allclose(predicted, episodes["action"], atol=0.02)
    assert not policy.training


@pytest.mark.parametrize(("steps", "last"), [(1, [1]), (250, [248, 250]), (1000, [990, 1000])])
def test_history_is_about_a_hundred_means(episodes, steps, last):
    calls = []
    history = train(line(), episodes, Training(steps=steps, batch=4), progress=lambda *call: calls.append(call))
    assert history["step"][-len(last) :] == last and len(history["step"]) <= 126
    assert calls == list(zip(history["step"], history["loss"], strict=True))


def test_the_seed_fixes_everything_but_the_first_weights(episodes):
    runs = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        policy = line()
        torch.manual_seed(noise)  # the global generator has no say
        loss = train(policy, episodes, Training(steps=30, batch=8), seed)["loss"]
        runs.append((loss, policy.net.weight.tolist()))
    assert runs[0] == runs[1] and runs[0] != runs[2]


def test_averaging_follows_the_weights(episodes):
    """The average of a training at rest is the weights themselves; of a moving one it lags behind."""
    still, moving, averaged = line(), line(), line()
    before = still.net.weight.clone()
    train(still, episodes, Training(steps=50, batch=8, learning_rate=0.0))
    torch.testing.assert_close(still.net.weight, before)
    train(moving, episodes, Training(steps=50, batch=8, learning_rate=0.01, average=False))
    train(averaged, episodes, Training(steps=50, batch=8, learning_rate=0.01))
    way, lag = moving.net.weight - before, moving.net.weight - averaged.net.weight
    assert 0.01 < lag.norm() / way.norm() < 0.9


def test_windows_reach_the_loss(episodes):
    policy = line(windows=Windows(n_obs=2, horizon=3, n_past=2))
    policy.loss = lambda batch, generator: policy.seen.append(batch) or policy.net.weight.square().sum()
    train(policy, episodes, Training(steps=8, batch=16))
    parts = ((batch.obs["obs"], batch.action, batch.valid, batch.past, batch.past_valid) for batch in policy.seen)
    obs, action, valid, past, past_valid = (torch.cat(part) for part in zip(*parts, strict=True))
    assert obs.shape == (128, 2, 3) and action.shape == (128, 3, 2) and valid.shape == (128, 3)
    assert past.shape == (128, 2, 2) and past_valid.shape == (128, 2)
    assert obs.dtype == action.dtype == past.dtype == torch.float32 and valid.dtype == past_valid.dtype == torch.bool
    assert valid[:, 0].all() and not valid.all()
    assert {tuple(row) for row in obs[:, -1].tolist()} <= {tuple(row) for row in episodes["obs"].tolist()}
    assert not policy.normalisers["obs"].centre.eq(0).all()  # fitted


# -- snapshots --------------------------------------------------------------------------------------------------------
def test_the_last_snapshot_is_the_policy(episodes):
    policy = line()
    *_, middle, last = fit(policy, episodes, Training(steps=40, batch=8, learning_rate=0.01), keep=4)
    assert (middle.step, last.step) == (30, 40)
    assert all(torch.equal(last.weights[name], value) for name, value in policy.state_dict().items())
    assert not torch.equal(middle.weights["net.weight"], last.weights["net.weight"])
    assert not torch.equal(last.raw["net.weight"], last.weights["net.weight"])  # averaged
    *_, plain = fit(policy, episodes, Training(steps=4, batch=8, average=False))
    assert torch.equal(plain.raw["net.weight"], plain.weights["net.weight"])


def test_tied_weights_are_averaged_under_both_names(episodes):
    policy = line()
    policy.twin = policy.net
    *_, last = fit(policy, episodes, Training(steps=20, batch=8, learning_rate=0.01), keep=2)
    assert torch.equal(last.weights["twin.weight"], last.weights["net.weight"])
    other = line(1)
    other.twin = other.net
    other.load_state_dict(last.weights)
    assert torch.equal(other.net.weight, policy.net.weight)


def test_a_training_may_be_left_and_taken_up_again(episodes):
    settings, policy = Training(steps=250, batch=4), line()  # the history has every second step: 25 lies between two
    for snapshot in fit(policy, episodes, settings, keep=10):
        if snapshot.step == 25:
            break
    other = line(3)
    *_, last = fit(other, episodes, settings, resume=snapshot)
    whole = line()
    *_, wanted = fit(whole, episodes, settings)
    assert torch.equal(other.net.weight, whole.net.weight) and last.history == wanted.history
    with pytest.raises(UserError, match="the snapshot has 250 steps, the training only 30; raise steps"):
        list(fit(line(), episodes, Training(steps=30, batch=8), resume=last))


# -- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "keep", "sentence"),
    [
        (Training(steps=0), 1, "at least one step, one example a batch and one snapshot, not 0, 512 and 1"),
        (Training(batch=0), 1, "not 3000, 0 and 1"),
        (Training(), 0, "not 3000, 512 and 0"),
    ],
)
def test_empty_trainings_are_refused(episodes, settings, keep, sentence):
    with pytest.raises(UserError, match=sentence):
        list(fit(line(), episodes, settings, keep=keep))


@pytest.mark.parametrize("name", ["obs", "action"])
def test_data_of_another_size_are_refused(episodes, name):
    with pytest.raises(UserError, match=rf"Line takes '{name}' of shape \(\d,\); the episodes have \(7,\)"):
        train(line(), episodes.with_array(name, np.zeros((60, 7), dtype=np.float32)), Training(steps=1))


def test_batches_without_actions_are_refused(episodes):
    class Bare(WindowBatches):
        def draw(self, size, generator):
            return super().draw(size, generator).obs

    with pytest.raises(UserError, match="Bare draws batches without actions; give them action"):
        train(line(), Bare(episodes), Training(steps=1))
