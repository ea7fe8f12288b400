"""What every policy promises, whatever its method: those of `ilbook.policies`, found by looking, and three small ones
that use all that a policy may.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.learning.fit import Training, fit
from ilbook.policies.base import Batch, Plan, Policy, device
from ilbook.policies.bc import MLPPolicy
from tests.contract import found
from tests.contract.small import SMALL, Gaussian, Recurrent, Streaming

OBS, ACTION, WINDOWS = 5, 2, Windows(n_obs=2, horizon=4, n_past=2)


POLICIES = [*SMALL, *found.policies()]


@pytest.fixture(
    params=[(policy, relative) for policy in POLICIES for relative in (None, (0, 1))],
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


def batch(policy: Policy, episodes: Episodes, size: int) -> Batch:
    """Windows with padding at both ends of an episode."""
    index = np.linspace(0, episodes.n_steps - 1, size).astype(int)
    rows = policy.windows.indices(episodes)
    seen, future, valid, past, past_valid = (torch.as_tensor(row[index]) for row in rows)
    action = torch.tensor(episodes["action"])
    before = action[past] * past_valid[..., None]
    obs = {name: torch.tensor(episodes[name])[seen] for name in policy.inputs if name != "action"}
    if "action" in policy.inputs:
        obs |= {"action": before, "action_valid": past_valid}
    return Batch(obs, action[future], valid, before, past_valid)


def tensors(data: Batch) -> list[torch.Tensor]:
    return [*data.obs.values(), data.action, data.valid, data.past, data.past_valid]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(policy: Policy, n: int, seed: int = 0) -> torch.Tensor | None:
    return None if policy.noise_shape is None else torch.randn(n, *policy.noise_shape, generator=generator(seed))


def act(policy: Policy, obs: dict[str, torch.Tensor], seed: int = 0, **more) -> torch.Tensor:
    with torch.no_grad():
        return policy.act(obs, noise(policy, len(obs["obs"]), seed), **more).chunk


def train(policy: Policy, episodes: Episodes, seed: int = 0, **settings) -> dict:
    *_, last = fit(policy, episodes, Training(**settings), seed=seed)
    return last.history


def test_there_are_policies():
    assert {"MLPPolicy", "Recurrent", "Streaming", "Gaussian"} <= {policy.__name__ for policy in POLICIES}


def test_loss_is_finite_and_falls(make, episodes):
    history = train(make(), episodes, steps=150, batch=32, warm_up=20, learning_rate=3e-3)
    assert np.isfinite(history["loss"]).all()
    assert np.mean(history["loss"][-10:]) < 0.5 * np.mean(history["loss"][:10])


def test_one_batch_can_be_learnt_by_heart(make, episodes):
    """The loss of a policy that cannot fit eight windows hides a mistake in it."""
    policy = make()
    policy.fit_normalisers(episodes)
    data = batch(policy, episodes, 8)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses = []
    for step in range(250):
        loss = policy.loss(data, generator(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.02 * np.mean(losses[:3])


def test_every_parameter_learns(make, episodes):
    policy = make()
    policy.fit_normalisers(episodes)
    policy.loss(batch(policy, episodes, 16), generator()).backward()
    idle = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_the_batch_is_not_changed(make, episodes):
    policy = make()
    policy.fit_normalisers(episodes)
    data = batch(policy, episodes, 8)
    before = [tensor.clone() for tensor in tensors(data)]
    policy.loss(data, generator()).backward()
    act(policy, data.obs)
    assert all(torch.equal(a, b) for a, b in zip(tensors(data), before, strict=True))


def test_saved_and_loaded_policies_act_alike(make, episodes, tmp_path):
    policy, other = make(0), make(1)
    train(policy, episodes, steps=5, batch=16)
    obs = batch(policy, episodes, 6).obs
    assert not torch.equal(act(policy, obs), act(other.eval(), obs))
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")
    other.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    assert torch.equal(act(policy, obs), act(other, obs))


def test_same_seed_same_policy_and_actions(make, episodes):
    actions, losses = [], []
    for _ in range(2):
        policy = make(3)
        losses.append(train(policy, episodes, seed=4, steps=20, batch=32)["loss"])
        actions.append(act(policy, batch(policy, episodes, 6).obs, seed=5))
    assert losses[0] == losses[1] and torch.equal(*actions)


def test_chance_comes_from_noise_and_generator_only(make, episodes):
    policy = make().eval()
    policy.fit_normalisers(episodes)
    data, outcomes = batch(policy, episodes, 6), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        outcomes.append((act(policy, data.obs), policy.loss(data, generator())))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
    if policy.noise_shape is not None:
        assert not torch.equal(act(policy, data.obs, seed=1), outcomes[0][0])


@pytest.mark.parametrize("windows", [WINDOWS, Windows(1, 1), Windows(3, 1, 1), Windows(1, 8, 3)])
def test_shapes_and_a_batch_of_one(make, episodes, windows):
    policy = make(windows=windows).eval()
    policy.fit_normalisers(episodes)
    for size in (7, 1):
        data = batch(policy, episodes, size)
        chunk = act(policy, data.obs)
        assert chunk.shape == (size, windows.horizon, ACTION) and chunk.dtype == torch.float32
        assert torch.isfinite(chunk).all()
        loss = policy.loss(data, generator())
        assert loss.shape == () and torch.isfinite(loss)
        features = policy.embed(data.obs)
        assert len(features) == size and features.ndim == 2


def test_actions_are_in_the_units_of_the_data(make, episodes):
    """Moving and stretching the demonstrated actions moves and stretches what is learnt: no number is left behind."""
    if make().relative_to is not None or "action" in make().inputs:
        pytest.skip("what is seen is tied to the actions, and does not move with them here")
    chunks = []
    for scale, shift in ((1.0, 0.0), (10.0, 3.0)):
        policy = make()
        train(policy, episodes.with_array("action", scale * episodes["action"] + shift), steps=20, batch=32)
        chunks.append((act(policy, batch(policy, episodes, 6).obs) - shift) / scale)
    torch.testing.assert_close(*chunks, atol=2e-3, rtol=0)


def test_padded_actions_do_not_count(make, episodes):
    policy = make().eval()
    policy.fit_normalisers(episodes)
    data = batch(policy, episodes, 12)
    assert (~data.valid).any()

    def loss(action):
        return policy.loss(Batch(data.obs, action, data.valid, data.past, data.past_valid), generator())

    valid = data.valid[..., None]
    assert torch.equal(loss(torch.where(valid, data.action, 1e3)), loss(data.action))
    assert not torch.equal(loss(torch.where(valid, data.action + 0.1, data.action)), loss(data.action))


def test_normalisers_go_there_and_back(make, episodes):
    policy = make()
    policy.fit_normalisers(episodes)
    rows = policy.windows.indices(episodes)
    obs, action = {"obs": torch.tensor(episodes["obs"][rows.obs])}, torch.tensor(episodes["action"][rows.action])
    now, normaliser = torch.tensor(episodes["obs"]), policy.normalisers["obs"]
    targets = policy.to_targets(obs, action)
    for scaled in (normaliser(now), targets):
        torch.testing.assert_close(scaled.amin(dim=0), torch.full(scaled.shape[1:], -1.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(scaled.amax(dim=0), torch.full(scaled.shape[1:], 1.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(normaliser.inverse(normaliser(now)), now, atol=1e-6, rtol=0)
    torch.testing.assert_close(policy.to_actions(obs, targets), action, atol=1e-6, rtol=0)
    kept = [name for name in policy.state_dict() if "normaliser" in name]
    assert len(kept) == 6  # one file restores the policy and its units


def test_what_is_fitted_is_never_refitted(make, episodes, tmp_path):
    """Fine-tuning, DAgger: other data must not change the units in which the network has learnt."""
    policy, loaded = make(), make(1)
    train(policy, episodes, steps=3, batch=16)
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")
    loaded.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    other = episodes.with_array("obs", 3 * episodes["obs"]).with_array("action", episodes["action"] - 1)
    units = {name: value.clone() for name, value in policy.state_dict().items() if "normaliser" in name}
    for one in (policy, loaded):
        train(one, other, steps=3, batch=16)
        assert all(torch.equal(one.state_dict()[name], value) for name, value in units.items())


def test_fit_goes_on_from_a_snapshot_bit_for_bit(make, episodes):
    settings = Training(steps=31, batch=16)
    policy = make(0)
    whole = list(fit(policy, episodes, settings, seed=5, keep=3))
    assert [snapshot.step for snapshot in whole] == [10, 21, 31]
    for number, old in enumerate(whole):
        other = make(1)
        rest = list(fit(other, episodes, settings, seed=6, keep=3, resume=old))
        assert [snapshot.step for snapshot in rest] == [10, 21, 31][number + 1 :]
        for ours, theirs in zip(rest, whole[number + 1 :], strict=True):
            assert ours.history == theirs.history and torch.equal(ours.rest["generator"], theirs.rest["generator"])
            assert all(torch.equal(ours.weights[name], value) for name, value in theirs.weights.items())
            assert all(torch.equal(ours.raw[name], value) for name, value in theirs.raw.items())
        assert all(torch.equal(other.state_dict()[name], value) for name, value in policy.state_dict().items())
    assert not all(torch.equal(value, whole[1].raw[name]) for name, value in whole[0].raw.items())  # copies


@pytest.mark.parametrize("kind", [Recurrent, Streaming])
def test_what_a_fresh_copy_remembers_is_not_looked_at(kind, episodes):
    torch.manual_seed(0)
    policy = kind(OBS, ACTION, WINDOWS).eval()
    policy.fit_normalisers(episodes)
    obs = batch(policy, episodes, 4).obs
    first = policy.act(obs, noise(policy, 4))
    assert {name: tuple(array.shape[1:]) for name, array in first.memory.items()} == dict(policy.memory_shapes)
    fresh = torch.tensor([True, False, True, False])
    spoilt = {name: torch.where(fresh.view(-1, *[1] * (array.ndim - 1)), torch.nan, array)
              for name, array in first.memory.items()}  # fmt: skip
    second = policy.act(obs, noise(policy, 4), memory=spoilt, fresh=fresh).chunk
    assert torch.equal(second[fresh], first.chunk[fresh])
    assert not torch.isclose(second[~fresh], first.chunk[~fresh]).all()
    assert torch.equal(policy.act(obs, noise(policy, 4), memory=first.memory).chunk[~fresh], second[~fresh])


# -- chunk samplers ---------------------------------------------------------------------------------------------------
@pytest.fixture
def gaussian(episodes) -> Gaussian:
    torch.manual_seed(0)
    policy = Gaussian(OBS, ACTION, WINDOWS)
    policy.fit_normalisers(episodes)
    return policy.eval()


def test_the_sampler_reaches_the_distribution_that_is_known(gaussian, episodes):
    """Normal chunks: the flow's exact solution is mean + standard deviation x noise."""
    obs, start = batch(gaussian, episodes, 6).obs, noise(gaussian, 6)
    exact = gaussian.mean(obs) + gaussian.VARIANCE**0.5 * start
    errors = [(gaussian.sample(obs, start, n_steps) - exact).abs().max().item() for n_steps in (1, 10, 100, 400)]
    assert errors[-1] < 0.01 and errors == sorted(errors, reverse=True)
    torch.testing.assert_close(gaussian.sample(obs, start, 1), gaussian.mean(obs))  # one step jumps to the mean


def test_gradients_flow_through_guided_sampling(gaussian, episodes):
    obs, start = batch(gaussian, episodes, 3).obs, noise(gaussian, 3)
    gaussian.double()
    obs, start = {"obs": obs["obs"].double()}, start.double().requires_grad_()
    strength = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def sampled(strength, start):
        return gaussian.sample(obs, start, 8, guide=lambda x, level, clean: clean + strength * (1.0 - clean)).sum()

    value = sampled(strength, start)
    by_strength, by_noise = torch.autograd.grad(value, (strength, start))
    with torch.no_grad():
        change = (sampled(strength + 1e-6, start) - sampled(strength - 1e-6, start)) / 2e-6
        moved = torch.zeros_like(start)
        moved[1, 2, 0] = 1e-6
        along = (sampled(strength, start + moved) - sampled(strength, start - moved)) / 2e-6
    torch.testing.assert_close(by_strength, change, rtol=1e-5, atol=0)
    torch.testing.assert_close(by_noise[1, 2, 0], along, rtol=1e-5, atol=0)
    plan = gaussian.act(obs, start).chunk  # through `act` as well
    assert torch.autograd.grad(plan.sum(), start)[0].abs().min() > 0


def test_promised_actions_are_kept(gaussian, episodes):
    obs, start = batch(gaussian, episodes, 5).obs, noise(gaussian, 5)
    promised = torch.rand(5, 4, ACTION, generator=generator(3)) - 0.5
    weight = torch.tensor([1.0, 1.0, 0.5, 0.0]).expand(5, 4)
    free = gaussian.act(obs, start).chunk
    chunk = gaussian.act(obs, start, promise=(promised, weight)).chunk
    torch.testing.assert_close(chunk[:, :2], promised[:, :2])
    torch.testing.assert_close(chunk[:, 3], free[:, 3])
    between = (chunk - free)[:, 2] / (promised - free)[:, 2]
    assert (between > 0).all() and (between < 1).all()


def test_a_stream_is_cleaned_look_by_look(episodes):
    """What a look executes was planned by the looks before; what comes last is new noise."""
    torch.manual_seed(0)
    policy = Streaming(OBS, ACTION, WINDOWS)
    train(policy, episodes, steps=400, batch=64, learning_rate=3e-3)
    rows = np.arange(40, 46)
    obs = [{"obs": torch.tensor(episodes["obs"])[policy.windows.indices(episodes).obs[rows + k]]} for k in range(6)]
    memory, errors = None, []
    for k, one in enumerate(obs):
        plan = policy.act(one, noise(policy, 6, seed=k), memory=memory)
        memory = plan.memory
        errors.append((plan.chunk[:, 0] - torch.tensor(episodes["action"])[rows + k]).abs().mean().item())
    assert max(errors) < 0.03  # of a range of 0.2
    other = policy.act(obs[0], noise(policy, 6, seed=9)).chunk - policy.act(obs[0], noise(policy, 6)).chunk
    assert other[:, 0].abs().mean() < 0.2 * other[:, -1].abs().mean()


# -- bad input --------------------------------------------------------------------------------------------------------
def test_what_does_not_fit_is_named(episodes):
    torch.manual_seed(0)
    recurrent, gaussian, mlp = (kind(OBS, ACTION, WINDOWS) for kind in (Recurrent, Gaussian, MLPPolicy))
    obs, start = batch(recurrent, episodes, 3).obs, noise(gaussian, 3)
    seen = {"obs": obs["obs"]}
    memory = {"hidden": torch.zeros(3, 31)}
    action, weight = torch.zeros(3, 4, ACTION), torch.ones(3, 4)
    for call, words in (
        (lambda: mlp.act({}), r"MLPPolicy needs 'obs' of shape \(0, 2, 5\) and got none"),
        (lambda: recurrent.act(seen), r"Recurrent needs 'action' of shape \(3, 2, 2\) and got none"),
        (lambda: recurrent.act(seen | {"action": obs["action"]}), r"needs 'action_valid' .* \(3, 2\) and got none"),
        (lambda: mlp.act({"obs": obs["obs"][:, 0]}), r"'obs' of shape \(3, 2, 5\) and got one of shape \(3, 5\)"),
        (lambda: recurrent.act(obs | {"action": obs["action"][:2]}), r"\(3, 2, 2\) and got one of .* \(2, 2, 2\)"),
        (lambda: mlp.act(seen, start), "MLPPolicy takes no noise; leave it out"),
        (lambda: gaussian.act(seen), r"Gaussian needs 'noise' of shape \(3, 4, 2\) and got none"),
        (lambda: gaussian.act(seen, start[:, :3]), r"\(3, 4, 2\) and got one of shape \(3, 3, 2\)"),
        (lambda: mlp.act(seen, memory=memory), "MLPPolicy takes no hidden; leave it out"),
        (lambda: recurrent.act(obs, memory=memory), r"'hidden' of shape \(3, 32\) and got one of .* \(3, 31"),
        (lambda: recurrent.act(obs, memory={}), "Recurrent needs 'hidden' of shape .* and got none"),
        (lambda: mlp.act(seen, promise=(action[:, :3], weight)), r"'promised action' of shape \(3, 4, 2\) and"),
        (lambda: mlp.act(seen, promise=(action, weight[:, :3])), r"'promised weight' of shape \(3, 4\) and got"),
        (lambda: mlp.act(seen, fresh=torch.ones(2, dtype=torch.bool)), r"'fresh' of shape \(3,\) and got"),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_a_policy_that_forgets_is_named(episodes):
    policy = Recurrent(OBS, ACTION, WINDOWS)
    for horizon, words in ((4, r"'hidden' of shape \(3, 32\) and planned none"), (3, r"'chunk' of shape \(3, 4, 2\)")):
        policy.plan = lambda *arguments, size=horizon: Plan(torch.zeros(3, size, ACTION))
        with pytest.raises(UserError, match=f"Recurrent needs {words}"):
            policy.act(batch(policy, episodes, 3).obs)


def test_a_policy_without_a_loss_cannot_be_trained(episodes):
    class Wrapper(MLPPolicy):
        loss = Policy.loss

    with pytest.raises(UserError, match="Wrapper has no loss and cannot be trained; train the policy that it wraps"):
        train(Wrapper(OBS, ACTION, WINDOWS), episodes, steps=1, batch=4)


def test_the_device_is_chosen_by_the_environment(monkeypatch, episodes):
    monkeypatch.setenv("ILBOOK_DEVICE", "cpu")
    assert device() == torch.device("cpu")
    train(MLPPolicy(OBS, ACTION, WINDOWS), episodes, steps=1, batch=4)
    for wrong in ("cuda:99", "gpu"):
        monkeypatch.setenv("ILBOOK_DEVICE", wrong)
        with pytest.raises(UserError, match=f"ILBOOK_DEVICE={wrong} cannot be used here .*; unset it"):
            train(MLPPolicy(OBS, ACTION, WINDOWS), episodes, steps=1, batch=4)
