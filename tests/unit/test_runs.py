import json
import random
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ilbook.errors import UserError
from ilbook.page import sources
from ilbook.page import store as runs
from ilbook.page.run import Run

DATA = {"obs": np.arange(6.0).reshape(3, 2), "action": np.ones((3, 1))}
fitted = []  # one entry per training, outside every function that the key follows


@dataclass(frozen=True)
class Settings:
    steps: int = 3
    rate: float = 0.1


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("ILBOOK_FRESH", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    fitted.clear()
    return tmp_path / "build" / "trained"


def note():
    """Count a training without the key seeing it."""
    import sys

    sys.modules[__name__].fitted.append(1)


def make():
    return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))


def fit(module):
    note()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    losses = []
    for _ in range(3):
        loss = (module(torch.randn(8, 2)) - 1).square().mean() + np.random.rand() + random.random()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return {"loss": losses}


def train(name="one_step", make=make, fit=fit, data=DATA, settings=Settings(), seed=0, profile="lecture", notebook="n"):
    run = SimpleNamespace(profile=profile, notebook=notebook)
    return runs.train(run, name, make, fit, data=data, settings=settings, seed=seed)


def weights(module):
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


def said(capsys):
    return capsys.readouterr().out.strip()


def test_a_training_is_done_once_and_said_to_be_reused(capsys):
    first, record = train()
    assert said(capsys) == "one_step: training (new)"
    again, reused = train()
    assert re.fullmatch(rf"one_step: reused {record.key[:4]}, trained [\d.]+ s ago in [\d.]+ s", said(capsys))
    assert len(fitted) == 1
    assert torch.equal(weights(first), weights(again))
    assert (record.reused, reused.reused) == (False, True)
    assert (record.key, record.history) == (reused.key, reused.history)
    assert len(record.history["loss"]) == 3
    assert not first.training and not again.training


def test_the_same_seed_trains_the_same(monkeypatch):
    first, record = train()
    monkeypatch.setenv("ILBOOK_FRESH", "1")
    torch.rand(3)
    again, repeated = train()
    assert len(fitted) == 2
    assert torch.equal(weights(first), weights(again)) and record.history == repeated.history
    assert not torch.equal(weights(first), weights(train(seed=1)[0]))
    assert not torch.equal(weights(first), weights(train(name="other")[0]))


def test_a_hit_and_a_miss_leave_the_global_generators_alone():
    def draw():
        return float(torch.rand(())), np.random.rand(), random.random()

    def after(work):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        work()
        return draw()

    expected = after(lambda: None)
    assert after(train) == expected
    assert after(train) == expected
    assert len(fitted) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": Settings(steps=4)}, "settings changed (steps 3 -> 4)"),
        ({"settings": {"steps": 3}}, "settings changed (rate 0.1 -> unset)"),
        ({"settings": {"steps": 3, "rate": 0.1, "net": {"width": 8}}}, "settings changed (net.width unset -> 8)"),
        ({"seed": 1}, "seed changed (0 -> 1)"),
        ({"profile": "full"}, "profile changed (lecture -> full)"),
        ({"data": {**DATA, "obs": -DATA["obs"]}}, "data changed (obs)"),
        ({"make": lambda: make()}, "sources changed (make argument, make)"),
        ({"seed": 1, "settings": Settings(rate=0.2)}, "settings changed (rate 0.1 -> 0.2), seed changed (0 -> 1)"),
    ],
)
def test_a_new_key_says_what_changed(change, message, capsys):
    train()
    said(capsys)
    train(**change)
    found = said(capsys).replace(f"{__name__}.", "")
    assert found == f"one_step: training again: {message}"
    assert len(fitted) == 2


def test_the_nearest_stored_training_explains(capsys):
    train(settings=Settings(steps=9), seed=5)
    train(settings=Settings(steps=4))
    said(capsys)
    train(settings=Settings(steps=5))
    assert said(capsys) == "one_step: training again: settings changed (steps 4 -> 5)"


def test_a_changed_module_is_named(capsys, monkeypatch):
    hashes = {"ilbook.learning.fit": "a", "fit argument": "b"}
    monkeypatch.setattr(runs.fingerprint, "object_hashes", lambda *_, **__: dict(hashes))
    monkeypatch.setattr(sources, "edited", lambda modules: [])
    train()
    said(capsys)
    hashes["ilbook.learning.fit"] = "c"
    train()
    assert said(capsys) == "one_step: training again: sources changed (ilbook.learning.fit)"


@pytest.mark.parametrize("other", [{"name": "one"}, {"name": "one_step-x"}, {"notebook": "m", "seed": 1}])
def test_other_names_and_notebooks_explain_nothing(other, capsys):
    train(**other)
    said(capsys)
    train()
    assert said(capsys) == "one_step: training (new)"


def test_settings_and_data_that_fit_uses_by_name_are_said_once(capsys):
    def chosen(settings, data):
        return lambda module: {"loss": [settings.steps, len(data["obs"])]}

    for settings in (Settings(), Settings(steps=4)):
        train(fit=chosen(settings, DATA), settings=settings)
    assert said(capsys).endswith("training again: settings changed (steps 3 -> 4)")


def test_equal_settings_are_one_key(capsys):
    train(settings=Settings())
    train(settings={"rate": np.float64(0.1), "steps": 3})
    assert len(fitted) == 1


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
    first, _ = train()
    (entry,) = store.iterdir()
    damage(entry)
    said(capsys)
    again, _ = train()
    assert said(capsys) == f"one_step: training again: the stored {entry.name} is damaged"
    assert torch.equal(weights(first), weights(again))
    train()
    assert len(fitted) == 2


def test_a_damaged_sibling_explains_nothing(store, capsys):
    train()
    (entry,) = store.iterdir()
    (entry / runs.META).write_text('{"parts": {}}')
    said(capsys)
    train(seed=1)
    assert said(capsys) == "one_step: training (new)"


@pytest.mark.parametrize(("error", "word"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")])
def test_an_interrupted_training_stores_nothing(error, word, store, capsys):
    def stop(module):
        raise error

    state = torch.get_rng_state()
    with pytest.raises(error):
        train(fit=stop)
    assert re.search(rf"one_step: {word} after \d\.\d s; nothing was stored", said(capsys))
    assert torch.equal(torch.get_rng_state(), state)
    assert not store.exists() or not list(store.iterdir())
    train()
    assert said(capsys) == "one_step: training (new)"


def test_a_full_disk_costs_the_reuse_but_not_the_training(store, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    module, _ = train()
    assert module(torch.zeros(1, 2)).shape == (1, 1)
    assert "trained, but not stored for reuse" in said(capsys)
    assert list(store.iterdir()) == []


def test_fit_must_not_change_what_lives_outside_it(store, capsys):
    seen = []

    def collecting(module):
        seen.append(1)
        return {}

    train(fit=collecting)
    assert "not stored: fit changed fit argument" in said(capsys)
    train(fit=collecting)
    assert seen == [1, 1]


def test_an_edited_module_is_trained_without_the_store(store, capsys, monkeypatch):
    monkeypatch.setattr(sources, "edited", lambda modules: ["ilbook.learning.fit"])
    train()
    assert "ilbook.learning.fit was edited since this kernel started; restart the kernel" in said(capsys)
    assert not store.exists()


def test_what_is_returned_always_comes_from_the_state_dict():
    def forgetful(module):
        module.note = "lost"
        return {}

    assert not hasattr(train(fit=forgetful)[0], "note")


def test_tied_weights_are_restored():
    def tied():
        net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        net[1].weight = net[0].weight
        return net

    first = train(make=tied)[0]
    again = train(make=tied)[0]
    assert len(fitted) == 1
    assert torch.equal(weights(first), weights(again)) and again[1].weight is again[0].weight


def test_episodes_are_data():
    def episodes(end):
        return SimpleNamespace(arrays=DATA, episode_ends=np.array([1, end]))

    train(data=episodes(3))
    train(data=episodes(3))
    assert len(fitted) == 1
    train(data=episodes(2))
    train(data=None)
    assert len(fitted) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../up"}, "training name"),
        ({"seed": -1}, "training seed -1"),
        ({"seed": True}, "training seed True"),
        ({"data": [1, 2]}, "training data is a list"),
        ({"settings": 3}, "training settings are a int"),
        ({"settings": {"act": torch.relu}}, "setting act is a builtin_function"),
        ({"fit": lambda module: [1]}, "fit returned a list"),
    ],
)
def test_train_refuses(change, message, store):
    with pytest.raises(UserError, match=message):
        train(**change)
    assert not store.exists()


def test_a_run_of_a_notebook_is_accepted(store, tmp_path):
    runs.train(Run("n", "smoke", 0, tmp_path, 1), "bc", make, fit, data=DATA, settings={}, seed=0)
    (entry,) = store.iterdir()
    meta = json.loads((entry / runs.META).read_text())
    assert meta["notebook"] == "n" and meta["parts"]["profile"] == "smoke"
    assert sorted(path.name for path in entry.iterdir()) == [runs.META, runs.WEIGHTS]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (41.2, "41 s"), (119, "119 s"), (150, "2 min"), (7300, "2 hours"), (200000, "2 days")],
)
def test_durations(seconds, words):
    assert runs._words(seconds) == words
