"""The store of trainings: done once, reused visibly, and a new key says what changed."""

import json
import random
import re

import numpy as np
import pytest
import torch

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.learning.batches import WindowBatches
from ilbook.learning.fit import Training
from ilbook.page import store as runs
from ilbook.page.run import Run
from ilbook.policies.bc import MLPPolicy

ARRAYS = {
    "obs": np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2),
    "action": np.linspace(1, 2, 12, dtype=np.float32).reshape(12, 1),
    "image": np.zeros((12, 2), np.float32),
}
SETTINGS = Training(steps=3, batch=4)
power = 2  # what the loss reaches beside its own code
trained = []  # one entry per training: the loss says so through `note`, which the key does not follow


def note():
    import sys

    sys.modules[__name__].trained.append(1)


class Watched(MLPPolicy):
    """A policy whose first loss of a training is counted, with a helper."""

    def loss(self, batch, generator=None):
        if self.training and not getattr(self, "seen", False):
            self.seen = True
            note()
        return super().loss(batch) + 0.01 * penalty(self)


def penalty(policy):
    return sum(p.abs() ** power for p in policy.net.layers[0].bias)


def make():
    return Watched(2, 1, Windows(1, 2), width=4, depth=1)


def episodes(ends=(5, 12), **changes):
    return Episodes({**ARRAYS, **changes}, np.array(ends))


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("ILBOOK_FRESH", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    trained.clear()
    return tmp_path / "build" / "trained"


def train(name="one_step", policy=make, data=None, settings=SETTINGS, seed=0, keep=0, notebook="n"):
    """One training, as its record."""
    data = episodes() if data is None else data
    return runs.train(notebook, name, policy, data, settings, [seed], keep).records[0]


def weights(record):
    return torch.cat([value.flatten().double() for value in record.policy.state_dict().values()])


def said(capsys):
    return capsys.readouterr().out.strip()


def test_a_training_is_done_once_and_said_to_be_reused(capsys):
    first = train()
    assert said(capsys) == "one_step: training (new)"
    again = train()
    assert re.fullmatch(rf"one_step: reused {first.key[:4]}, trained [\d.]+ s ago in [\d.]+ s", said(capsys))
    assert len(trained) == 1
    assert torch.equal(weights(first), weights(again))
    assert (first.reused, again.reused) == (False, True)
    assert (first.key, first.history) == (again.key, again.history)
    assert first.history["step"] == [1, 2, 3] and len(first.history["loss"]) == 3
    assert not first.policy.training and not again.policy.training


def test_the_same_seed_trains_the_same(monkeypatch):
    first = train()
    monkeypatch.setenv("ILBOOK_FRESH", "1")
    torch.rand(3)
    again = train()
    assert len(trained) == 2
    assert torch.equal(weights(first), weights(again)) and first.history == again.history
    assert not torch.equal(weights(first), weights(train(seed=1)))
    assert not torch.equal(weights(first), weights(train(name="other")))


def test_a_hit_and_a_miss_leave_the_global_generators_alone():
    def after(work):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        work()
        return float(torch.rand(())), np.random.rand(), random.random()

    expected = after(lambda: None)
    assert after(train) == expected
    assert after(train) == expected
    assert len(trained) == 1


def test_a_policy_that_is_given_is_copied_and_its_weights_are_part_of_the_key(capsys):
    torch.manual_seed(0)
    policy = make()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    first = train(policy=policy)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    said(capsys)
    with torch.no_grad():
        policy.net.layers[0].bias.add_(1)
    again = train(policy=policy)
    assert said(capsys) == "one_step: training again: policy changed (weights)"
    assert first.key != again.key
    with pytest.raises(UserError, match="one policy cannot be trained 2 times"):
        runs.train("n", "one_step", policy, episodes(), SETTINGS, [0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": Training(steps=4, batch=4)}, "settings changed (steps 3 -> 4)"),
        ({"keep": 1}, "settings changed (keep 0 -> 1)"),
        ({"data": episodes(obs=-ARRAYS["obs"])}, "data changed (obs)"),
        ({"data": episodes(ends=(4, 12))}, "data changed (ends)"),
        ({"settings": Training(steps=3, batch=4, learning_rate=0.1)}, "settings changed (learning_rate 0.001 -> 0.1)"),
    ],
)
def test_a_new_key_says_what_changed(change, message, capsys):
    train()
    said(capsys)
    train(**change)
    assert said(capsys) == f"one_step: training again: {message}"
    assert len(trained) == 2


def test_another_seed_has_other_weights_too(capsys):
    train()
    said(capsys)
    train(seed=1)
    assert said(capsys) == "one_step: training again: seed changed (0 -> 1), policy changed (weights)"


def test_what_the_policy_does_not_look_at_does_not_count():
    train()
    train(data=episodes(image=np.ones((12, 2), np.float32)))
    assert len(trained) == 1


# -- code: the class, and all that it reaches -------------------------------------------------------------------------
def found(capsys):
    return said(capsys).replace(f"{__name__}.", "")


def test_editing_a_helper_that_the_loss_calls_trains_anew(monkeypatch, capsys):
    train()
    said(capsys)
    monkeypatch.setitem(globals(), "penalty", lambda policy: 2 * sum(p.abs() for p in policy.net.layers[0].bias))
    first = train()
    assert "training again: policy changed (" in found(capsys) and len(trained) == 2
    monkeypatch.undo()
    assert train().key != first.key


def test_a_value_that_the_loss_reaches_trains_anew(monkeypatch, capsys):
    train()
    said(capsys)
    monkeypatch.setitem(globals(), "power", 3)
    train()
    assert found(capsys) == "one_step: training again: policy changed (power)"


def test_another_loss_of_the_class_trains_anew(monkeypatch, capsys):
    train()
    said(capsys)
    monkeypatch.setattr(Watched, "loss", lambda self, batch, generator=None: 2 * MLPPolicy.loss(self, batch))
    train()
    assert "policy changed (" in found(capsys) and len(trained) == 1, "the other loss does not count itself"


def test_code_that_is_not_reached_does_not_count(monkeypatch):
    train()
    monkeypatch.setitem(globals(), "episodes", episodes)
    monkeypatch.setitem(globals(), "SETTINGS", Training(steps=9))
    train(settings=Training(steps=3, batch=4))
    assert len(trained) == 1


def test_a_part_that_behaves_otherwise_trains_anew(golden, capsys):
    parts = ["learning.fit", "nets.mlp", "policies.bc"]
    golden({part: {"x": 1} for part in parts})
    train()
    said(capsys)
    golden({part: {"x": 1 + (part == "nets.mlp")} for part in parts})
    train()
    assert said(capsys) == "one_step: training again: versions changed (nets.mlp)"
    golden({part: {"x": 1} for part in parts})
    train()
    assert "reused" in said(capsys), "the first one is still there"


def test_a_part_that_only_ran_counts_too(golden, capsys, monkeypatch):
    """What no code of the notebook names, but the loss reached while it trained."""
    golden({"nets.other": {"x": 1}})
    monkeypatch.setitem(globals(), "note", lambda: used.note("nets.other"))
    train()
    said(capsys)
    with used.collected() as in_use:
        train()
    assert "reused" in said(capsys) and "nets.other" in in_use, "noted again on reuse"
    golden({"nets.other": {"x": 2}})
    train()
    assert "or a part that it used has changed" in said(capsys)


def test_the_nearest_stored_training_explains(capsys):
    train(settings=Training(steps=9, batch=2), seed=5)
    train(settings=Training(steps=4, batch=4))
    said(capsys)
    train(settings=Training(steps=5, batch=4))
    assert said(capsys) == "one_step: training again: settings changed (steps 4 -> 5)"


@pytest.mark.parametrize("other", [{"name": "one"}, {"name": "one_step-x"}, {"notebook": "m", "seed": 1}])
def test_other_names_and_notebooks_explain_nothing(other, capsys):
    train(**other)
    said(capsys)
    train()
    assert said(capsys) == "one_step: training (new)"


# -- files ------------------------------------------------------------------------------------------------------------
def damage_weights(entry):
    path = entry / runs.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        damage_weights,
        lambda entry: (entry / runs.WEIGHTS).write_bytes(b""),
        lambda entry: (entry / runs.WEIGHTS).unlink(),
        lambda entry: (entry / runs.META).write_text('{"weights": '),
        lambda entry: (entry / runs.META).write_text("[]"),
        lambda entry: (entry / runs.META).unlink(),
    ],
)
def test_a_damaged_entry_is_trained_again(damage, store, capsys):
    first = train()
    (entry,) = store.iterdir()
    damage(entry)
    said(capsys)
    again = train()
    assert said(capsys).startswith(f"one_step: training again: the stored {entry.name} is damaged")
    assert torch.equal(weights(first), weights(again))
    train()
    assert len(trained) == 2


def test_a_damaged_sibling_explains_nothing(store, capsys):
    train()
    (entry,) = store.iterdir()
    (entry / runs.META).write_text('{"parts": {}}')
    said(capsys)
    train(seed=1)
    assert said(capsys) == "one_step: training (new)"


@pytest.mark.parametrize(("error", "word"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")])
def test_an_interrupted_training_stores_nothing(error, word, store, capsys, monkeypatch):
    def stop():
        raise error

    state = torch.get_rng_state()
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setitem(globals(), "note", stop)
        train()
    assert re.search(rf"one_step: {word} after \d\.\d s; nothing was stored", said(capsys))
    assert torch.equal(torch.get_rng_state(), state)
    assert not store.exists() or not list(store.iterdir())
    train()
    assert said(capsys) == "one_step: training (new)"


def test_a_full_disk_costs_the_reuse_but_not_the_training(store, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    record = train()
    assert record.policy.act({"obs": torch.zeros(1, 1, 2)}).chunk.shape == (1, 2, 1)
    assert "trained, but not stored for reuse" in said(capsys)
    assert list(store.iterdir()) == []


def test_checkpoints_are_kept_by_step(store):
    record = train(settings=Training(steps=4, batch=4), keep=2)
    assert list(record.snapshots) == [2, 4]
    assert list(train(settings=Training(steps=4, batch=4), keep=2).snapshots) == [2, 4] and len(trained) == 1


def test_tied_weights_are_restored():
    def tied():
        policy = make()
        policy.other = torch.nn.Linear(2, 4)
        policy.other.weight = policy.net.layers[0].weight
        return policy

    first, again = train(policy=tied), train(policy=tied)
    assert len(trained) == 1
    assert torch.equal(weights(first), weights(again))
    assert again.policy.other.weight is again.policy.net.layers[0].weight


def test_a_batch_sampler_is_data(capsys):
    def sampler(*weights):
        return WindowBatches(episodes(), np.array(weights * 6))

    train(data=sampler(1, 1))
    train(data=sampler(1, 1))
    assert len(trained) == 1
    train(data=sampler(1, 2))
    assert len(trained) == 2 and "data changed" in said(capsys)


def test_a_name_must_be_able_to_name_a_folder(store):
    with pytest.raises(UserError, match="training name"):
        train(name="../up")
    assert not store.exists()


def test_a_run_trains_with_its_seeds(store, tmp_path):
    run = Run("n", "full", 2, tmp_path, 1)
    result = run.train("bc", make, episodes(), SETTINGS)
    assert list(result.policies) == [2000, 2001, 2002] and len(list(store.iterdir())) == 3
    meta = json.loads((next(store.iterdir()) / runs.META).read_text())
    assert meta["notebook"] == "n" and {"learning.fit", "learning.batches"} <= meta["used"].keys()
    assert len(result.history["loss"]) == SETTINGS.steps


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (41.2, "41 s"), (119, "119 s"), (150, "2 min"), (7300, "2 hours"), (200000, "2 days")],
)
def test_durations(seconds, words):
    assert runs._words(seconds) == words
