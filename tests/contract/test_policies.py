"""What every policy in `ilbook.policies` promises, whatever its method: found by looking, not by a list."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ilbook.policies
from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.learning.fit import Training, fit
from ilbook.policies.base import Policy

OBS, ACTION, WINDOWS = 5, 2, Windows(n_obs=2, horizon=4)


def policies() -> list[type[Policy]]:
    """Every concrete policy that is defined in the package."""
    found = {}
    for module in pkgutil.iter_modules(ilbook.policies.__path__, "ilbook.policies."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and issubclass(value, Policy) and not inspect.isabstract(value):
                found[value.__qualname__] = value
    return list(found.values())


@pytest.fixture(
    params=[(policy, relative) for policy in policies() for relative in (None, (0, 1))],
    ids=lambda param: f"{param[0].__name__}-{'relative' if param[1] else 'absolute'}",
)
def make(request):
    """Makes an untrained policy of each type, the same one for the same seed, with absolute or relative actions."""
    policy_type, relative_to = request.param

    def made(seed: int = 0, windows: Windows = WINDOWS) -> Policy:
        torch.manual_seed(seed)
        return policy_type(OBS, ACTION, windows, relative_to=relative_to)

    return made


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    """Smooth demonstrations of one rule that a policy can learn: the action is a function of the observation."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(12, 30, 8)
    steps = np.concatenate([np.arange(n) for n in lengths])
    phase = np.repeat(rng.uniform(0, 6, (8, OBS)), lengths, axis=0) + 0.2 * steps[:, None]
    obs = 0.3 * np.sin(phase) + 0.2
    action = 0.1 * np.tanh(obs @ rng.standard_normal((OBS, ACTION))) + 0.3
    return Episodes({"obs": obs.astype(np.float32), "action": action.astype(np.float32)}, np.cumsum(lengths))


def batch(policy: Policy, episodes: Episodes, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Windows with padding at both ends of an episode: obs (B, n_obs, O), action (B, H, A), valid (B, H)."""
    rows = np.linspace(0, episodes.n_steps - 1, size).astype(int)
    past, future, valid = (index[rows] for index in policy.windows.indices(episodes))
    return torch.tensor(episodes["obs"][past]), torch.tensor(episodes["action"][future]), torch.tensor(valid)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_there_are_policies():
    assert "MLPPolicy" in {policy.__name__ for policy in policies()}


def test_loss_is_finite_and_falls(make, episodes):
    policy = make()
    history = fit(policy, episodes, Training(steps=300, batch=64), seed=0)
    assert np.isfinite(history["loss"]).all()
    assert np.mean(history["loss"][-10:]) < 0.5 * np.mean(history["loss"][:10])


def test_one_batch_can_be_learnt_by_heart(make, episodes):
    """The loss of a policy that cannot fit eight windows hides a mistake in it."""
    policy = make()
    policy.fit_normalisers(episodes)
    data = batch(policy, episodes, 8)
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-3)
    losses = []
    for step in range(400):
        loss = policy.loss(*data, generator(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.02 * np.mean(losses[:3])


def test_every_parameter_learns(make, episodes):
    policy = make()
    policy.fit_normalisers(episodes)
    policy.loss(*batch(policy, episodes, 16), generator()).backward()
    idle = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_the_batch_is_not_changed(make, episodes):
    policy = make()
    policy.fit_normalisers(episodes)
    data = batch(policy, episodes, 8)
    before = [tensor.clone() for tensor in data]
    policy.loss(*data, generator()).backward()
    policy.act(data[0], generator())
    assert all(torch.equal(a, b) for a, b in zip(data, before, strict=True))


def test_saved_and_loaded_policies_act_alike(make, episodes, tmp_path):
    policy, other = make(0), make(1)
    fit(policy, episodes, Training(steps=5, batch=16))
    obs = batch(policy, episodes, 6)[0]
    assert not torch.equal(policy.act(obs, generator()), other.eval().act(obs, generator()))
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")
    other.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    assert torch.equal(policy.act(obs, generator()), other.act(obs, generator()))


def test_same_seed_same_policy_and_actions(make, episodes):
    actions, losses = [], []
    for _ in range(2):
        policy = make(3)
        losses.append(fit(policy, episodes, Training(steps=20, batch=32), seed=4)["loss"])
        actions.append(policy.act(batch(policy, episodes, 6)[0], generator(5)))
    assert losses[0] == losses[1] and torch.equal(*actions)


def test_chance_comes_from_the_generator_only(make, episodes):
    policy = make().eval()
    policy.fit_normalisers(episodes)
    data, outcomes = batch(policy, episodes, 6), []
    for noise in (1, 2):
        torch.manual_seed(noise)
        outcomes.append((policy.act(data[0], generator()), policy.loss(*data, generator())))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("windows", [WINDOWS, Windows(1, 1), Windows(3, 1), Windows(1, 8)])
def test_shapes_and_a_batch_of_one(make, episodes, windows):
    policy = make(windows=windows).eval()
    policy.fit_normalisers(episodes)
    for size in (7, 1):
        data = batch(policy, episodes, size)
        chunk = policy.act(data[0], generator())
        assert chunk.shape == (size, windows.horizon, ACTION) and chunk.dtype == torch.float32
        assert not chunk.requires_grad and torch.isfinite(chunk).all()
        loss = policy.loss(*data, generator())
        assert loss.shape == () and torch.isfinite(loss)


def test_actions_are_in_the_units_of_the_data(make, episodes):
    """Moving and stretching the demonstrated actions moves and stretches what is learnt: no number is left behind."""
    if make().relative_to is not None:
        pytest.skip("relative actions are tied to the position in the observation, which does not move here")
    chunks = []
    for scale, shift in ((1.0, 0.0), (10.0, 3.0)):
        policy = make()
        fit(policy, episodes.with_array("action", scale * episodes["action"] + shift), Training(steps=20, batch=32))
        chunks.append((policy.act(batch(policy, episodes, 6)[0], generator()) - shift) / scale)
    torch.testing.assert_close(*chunks, atol=2e-3, rtol=0)


def test_padded_actions_do_not_count(make, episodes):
    policy = make().eval()
    policy.fit_normalisers(episodes)
    obs, action, valid = batch(policy, episodes, 12)
    assert (~valid).any()
    clean = policy.loss(obs, action, valid, generator())
    spoilt = torch.where(valid[..., None], action, torch.full_like(action, 1e3))
    assert torch.equal(policy.loss(obs, spoilt, valid, generator()), clean)
    changed = torch.where(valid[..., None], action + 0.1, action)
    assert not torch.equal(policy.loss(obs, changed, valid, generator()), clean)


def test_normalisers_go_there_and_back(make, episodes):
    policy = make()
    policy.fit_normalisers(episodes)
    past, future, _ = policy.windows.indices(episodes)
    obs, action = torch.tensor(episodes["obs"][past]), torch.tensor(episodes["action"][future])
    now = torch.tensor(episodes["obs"])
    targets = policy.to_targets(obs, action)
    for scaled in (policy.obs_normaliser(now), targets):
        torch.testing.assert_close(scaled.amin(dim=0), torch.full(scaled.shape[1:], -1.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(scaled.amax(dim=0), torch.full(scaled.shape[1:], 1.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(policy.obs_normaliser.inverse(policy.obs_normaliser(now)), now, atol=1e-6, rtol=0)
    torch.testing.assert_close(policy.to_actions(obs, targets), action, atol=1e-6, rtol=0)
    kept = [name for name in policy.state_dict() if "normaliser" in name]
    assert len(kept) == 4  # one file restores the policy and its units
