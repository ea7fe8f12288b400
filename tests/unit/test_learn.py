"""The one training loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.learning.fit import Training, fit, rate
from ilbook.policies.base import Policy


class Line(Policy):
    """A linear policy: its loss is a quadratic whose minimum is known."""

    def __init__(self, windows: Windows | None = None):
        super().__init__(3, 2, windows or Windows())
        self.net = nn.Linear(3, 2)
        self.seen = []

    def loss(self, obs, action, valid, generator=None):
        assert self.training
        self.seen.append((obs, action, valid))
        return (self.net(self.obs_normaliser(obs)) - self.action_normaliser(action)).square().mean()

    def act(self, obs, generator=None):
        return self.action_normaliser.inverse(self.net(self.obs_normaliser(obs)))


def line(seed: int = 0, windows: Windows | None = None) -> Line:
    torch.manual_seed(seed)
    return Line(windows)


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
    history = fit(policy, episodes, Training(steps=600, batch=32, learning_rate=0.03, weight_decay=0.0))
    assert history["loss"][-1] < 1e-4 * history["loss"][0]
    predicted = policy.act(torch.tensor(episodes["obs"])).detach().numpy()
    np.testing.assert_allclose(predicted, episodes["action"], atol=0.02)
    assert not policy.training


@pytest.mark.parametrize(("steps", "last"), [(1, [1]), (250, [248, 250]), (1000, [990, 1000])])
def test_history_is_about_a_hundred_means(episodes, steps, last):
    calls = []
    history = fit(line(), episodes, Training(steps=steps, batch=4), progress=lambda *call: calls.append(call))
    assert history["step"][-len(last) :] == last and len(history["step"]) <= 126
    assert calls == list(zip(history["step"], history["loss"], strict=True))


def test_the_seed_fixes_everything_but_the_first_weights(episodes):
    runs = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        policy = line()
        torch.manual_seed(noise)  # the global generator has no say
        loss = fit(policy, episodes, Training(steps=30, batch=8), seed)["loss"]
        runs.append((loss, policy.net.weight.tolist()))
    assert runs[0] == runs[1] and runs[0] != runs[2]


def test_averaging_follows_the_weights(episodes):
    """The average of a training at rest is the weights themselves; of a moving one it lags behind."""
    still, moving, averaged = line(), line(), line()
    before = still.net.weight.clone()
    fit(still, episodes, Training(steps=50, batch=8, learning_rate=0.0))
    torch.testing.assert_close(still.net.weight, before)
    fit(moving, episodes, Training(steps=50, batch=8, learning_rate=0.01, average=False))
    fit(averaged, episodes, Training(steps=50, batch=8, learning_rate=0.01))
    way, lag = moving.net.weight - before, moving.net.weight - averaged.net.weight
    assert 0.01 < lag.norm() / way.norm() < 0.9


def test_windows_reach_the_loss(episodes):
    policy = line(windows=Windows(n_obs=2, horizon=3))
    policy.loss = lambda obs, action, valid, generator: (
        policy.seen.append((obs, action, valid)) or (policy.net.weight.square().sum())
    )
    fit(policy, episodes, Training(steps=8, batch=16))
    obs, action, valid = (torch.cat(parts) for parts in zip(*policy.seen, strict=True))
    assert obs.shape == (128, 2, 3) and action.shape == (128, 3, 2) and valid.shape == (128, 3)
    assert obs.dtype == action.dtype == torch.float32 and valid.dtype == torch.bool
    assert valid[:, 0].all() and not valid.all()
    assert {tuple(row) for row in obs[:, -1].tolist()} <= {tuple(row) for row in episodes["obs"].tolist()}
    assert not policy.obs_normaliser.centre.eq(0).all()  # fitted


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Training(steps=0), "at least one step and one window a batch, not 0 and 512"),
        (Training(batch=0), "at least one step and one window a batch, not 3000 and 0"),
    ],
)
def test_empty_trainings_are_refused(episodes, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        fit(line(), episodes, settings)


@pytest.mark.parametrize("name", ["obs", "action"])
def test_data_of_another_size_are_refused(episodes, name):
    with pytest.raises(UserError, match=rf"takes {name} of size \d; the episodes have \(7,\)"):
        fit(line(), episodes.with_array(name, np.zeros((60, 7), dtype=np.float32)), Training(steps=1))
