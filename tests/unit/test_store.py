"""The store of trainings: done once, reused visibly, and done again when anything that counts has changed."""

import json
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.learning.batches import WindowBatches
from ilbook.learning.fit import Training
from ilbook.page import store, versions
from ilbook.page.run import Run
from ilbook.policies.base import Plan, Policy

SETTINGS = Training(steps=3, batch=4, warm_up=1)


def episodes(sign=1.0, ends=(4, 9)):
    steps = np.arange(ends[-1], dtype=np.float32)
    arrays = {"obs": np.stack([steps, sign * steps**2], 1), "action": sign * steps[:, None], "other": steps}
    return Episodes(arrays, np.array(ends))


DATA = episodes()
started = []  # one entry per training, outside every function that the key follows


def scale(error):
    """What the loss calls."""
    return error.square().mean()


class Line(Policy):
    """Two numbers, so that a training takes no time."""

    def __init__(self, size=2):
        super().__init__({"obs": (size,)}, 1, Windows())
        self.net = torch.nn.Linear(size, 1)

    def loss(self, batch, generator=None):
        sys.modules[__name__].started.append(1)
        return scale(self.net(self.embed(batch.obs))[:, None] - self.to_targets(batch.obs, batch.action))

    def plan(self, obs, noise, promise, memory, fresh):
        return Plan(self.to_actions(obs, self.net(self.embed(obs))[:, None]))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("ILBOOK_FRESH", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    started.clear()
    return tmp_path / "build" / "trained"


def train(name="line", policy=Line, data=DATA, settings=SETTINGS, seeds=(0,), keep=0, notebook="n"):
    return store.train(notebook, {name: (policy, data, settings)}, list(seeds), keep)[name]


def weights(policy):
    return torch.cat([value.flatten().double() for value in policy.state_dict().values()])


def said(capsys):
    return capsys.readouterr().out.strip()


def trainings():
    return len(started) // SETTINGS.steps


def test_a_training_is_done_once_and_said_to_be_reused(capsys):
    first = train()
    assert said(capsys) == "line: training (new)"
    again = train()
    key = first.records[0].key
    assert re.fullmatch(rf"line: reused {key[:4]}, trained [\d.]+ s ago in [\d.]+ s", said(capsys))
    assert trainings() == 1 and torch.equal(weights(first.policy), weights(again.policy))
    assert (first.records[0].reused, again.records[0].reused) == (False, True)
    assert first.history == again.history and first.history["step"] == [1, 2, 3]
    assert not first.policy.training and not again.policy.training


def test_each_seed_has_weights_of_its_own_and_repeats_them(monkeypatch):
    first = train(seeds=(0, 1))
    assert list(first.policies) == [0, 1]
    assert not torch.equal(weights(first.policies[0]), weights(first.policies[1]))
    monkeypatch.setenv("ILBOOK_FRESH", "1")
    torch.rand(3)
    again = train(seeds=(0, 1))
    assert trainings() == 4
    for seed in (0, 1):
        assert torch.equal(weights(first.policies[seed]), weights(again.policies[seed]))
    assert not torch.equal(weights(first.policy), weights(train(name="other").policy))


def test_checkpoints_are_kept_and_reused():
    first, again = train(keep=3), train(keep=3)
    assert trainings() == 1
    assert list(first.snapshots) == list(again.snapshots) == [1, 2, 3]
    for step, policy in first.snapshots.items():
        assert torch.equal(weights(policy), weights(again.snapshots[step]))
    assert torch.equal(weights(first.snapshots[3]), weights(first.policy))
    assert not torch.equal(weights(first.snapshots[1]), weights(first.policy))


def test_a_policy_that_is_given_is_trained_on_from_its_weights_and_left_alone():
    given = train().policy
    before = weights(given)
    other = train(policy=given, data=episodes(-1.0)).policy
    assert torch.equal(weights(given), before) and not torch.equal(weights(other), before)
    assert torch.equal(other.action_normaliser.scale, given.action_normaliser.scale), "what is fitted stays"
    with torch.no_grad():
        given.net.bias += 1
    train(policy=given, data=episodes(-1.0))
    assert trainings() == 3, "other weights to begin with are another training"


def test_a_hit_and_a_miss_leave_the_global_generators_alone():
    def after(work):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        work()
        return float(torch.rand(())), np.random.rand(), random.random()

    expected = after(lambda: None)
    assert after(train) == expected and after(train) == expected
    assert trainings() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": Training(steps=4, batch=4, warm_up=1)}, ["settings.steps (3 -> 4)"]),
        ({"keep": 1}, ["settings.keep (0 -> 1)"]),
        ({"data": episodes(-1.0)}, ["data.action", "data.obs"]),
        ({"data": episodes(ends=(5, 9))}, ["data.episode_ends"]),
    ],
)
def test_a_new_key_says_what_changed(change, message, capsys):
    train()
    said(capsys)
    train(**change)
    found = re.fullmatch(r"line: training again: (.*) changed", said(capsys))
    assert sorted(found[1].split(", ")) == message


def test_what_the_policy_does_not_look_at_is_no_part_of_the_key():
    train()
    train(data=DATA.with_array("other", DATA["other"] + 1))
    assert trainings() == 1


def test_editing_a_helper_that_the_loss_calls_trains_anew(monkeypatch, capsys):
    train()
    said(capsys)
    monkeypatch.setattr(sys.modules[__name__], "scale", lambda error: error.abs().mean())
    train()
    assert re.match(r"line: training again: (.*, )?policy\.\S*scale", said(capsys))
    assert trainings() == 2


def test_another_behaviour_of_a_part_trains_anew(monkeypatch):
    train()
    known = versions.known
    monkeypatch.setattr(versions, "known", lambda parts: known(parts) | {"learning.fit": "changed"})
    train()
    assert trainings() == 2


def test_a_part_that_only_the_training_used_counts_too(monkeypatch, folder):
    train()
    (meta,) = folder.glob("*/meta.json")
    content = json.loads(meta.read_text())
    content["used"]["nets.mlp"] = "other"
    meta.write_text(json.dumps(content))
    train()
    assert trainings() == 2


def test_the_parts_of_a_stored_training_count_as_used():
    train()
    with used.collected() as parts:
        train()
    assert {"learning.fit", "learning.batches", "data.windows", "data.normalise"} <= parts and trainings() == 1


def test_a_sampler_of_batches_is_data_too():
    sampler = WindowBatches(DATA)
    train(data=sampler), train(data=sampler), train(data=WindowBatches(DATA))
    assert trainings() == 1, "a sampler does not change by being used"
    train(data=WindowBatches(DATA, weights=np.arange(9.0)))
    assert trainings() == 2


def damage_weights(entry):
    content = bytearray((entry / store.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (entry / store.WEIGHTS).write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        damage_weights,
        lambda entry: (entry / store.WEIGHTS).write_bytes(b""),
        lambda entry: (entry / store.WEIGHTS).unlink(),
        lambda entry: (entry / store.META).write_text('{"weights": '),
        lambda entry: (entry / store.META).write_text("[]"),
        lambda entry: (entry / store.META).unlink(),
    ],
)
def test_a_damaged_entry_is_trained_again(damage, folder, capsys):
    first = train()
    (entry,) = folder.iterdir()
    damage(entry)
    said(capsys)
    again = train()
    assert f"the stored {entry.name} is damaged" in said(capsys)
    assert torch.equal(weights(first.policy), weights(again.policy))
    train()
    assert trainings() == 2


def test_other_names_and_notebooks_explain_nothing(capsys):
    train(name="line-2"), train(notebook="m", seeds=(1,))
    said(capsys)
    train()
    assert said(capsys) == "line: training (new)"


@pytest.mark.parametrize(("error", "word"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")])
def test_an_interrupted_training_stores_nothing(error, word, folder, capsys, monkeypatch):
    def stop(*_):
        raise error

    state = torch.get_rng_state()
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(torch.optim.AdamW, "step", stop)
        train()
    assert re.search(rf"line: {word} after \d\.\d s; nothing was stored", said(capsys))
    assert torch.equal(torch.get_rng_state(), state)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_full_disk_costs_the_reuse_but_not_the_training(folder, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert train().policy.act({"obs": torch.zeros(1, 1, 2)}).chunk.shape == (1, 1, 1)
    assert "trained, but not stored for reuse" in said(capsys)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../up"}, "training name"),
        ({"policy": Line(), "seeds": (0, 1)}, "give a function that makes it"),
    ],
)
def test_train_refuses(change, message, folder):
    with pytest.raises(UserError, match=message):
        train(**change)
    assert not folder.exists()


def test_a_run_trains_as_often_as_its_profile_says(tmp_path):
    assert len(Run("n", "full", 2, tmp_path, 1).train("line", Line, DATA, SETTINGS).records) == 3
    trained = Run("n", "lecture", 2, tmp_path, 1).train("line", Line, DATA, SETTINGS)
    assert list(trained.policies) == [2000] and trained.records[0].reused
    assert list(Run("n", "full", 2, tmp_path, 1).train("line", Line(), DATA, SETTINGS).policies) == [2000]


SIDE_BY_SIDE = """
import hashlib, os, sys
import numpy as np, torch
from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows
from ilbook.learning.fit import Training
from ilbook.page.run import Run
from ilbook.policies.bc import MLPPolicy

class Mine(MLPPolicy):  # as a notebook defines it: no module holds it
    def loss(self, batch, generator=None):
        return super().loss(batch, generator) * twice()

def twice():
    return 2.0

rng = np.random.default_rng(0)
def episodes(sign):
    obs = rng.standard_normal((400, 3)).astype(np.float32)
    return Episodes({"obs": obs, "action": sign * obs[:, :2]}, np.array([200, 400]))

sets = {"plus": episodes(1), "minus": episodes(-1)}
settings = Training(steps=600, batch=64)
run = Run.start("n", "full", 0)
trained = run.train("arm", lambda: Mine(3, 2, Windows(horizon=2), width=32), sets, settings, keep=2, trainings=2)
for key, arm in trained.items():
    for record in arm.records:
        for policy in (record.policy, *record.snapshots.values()):
            weights = b"".join(value.numpy().tobytes() for value in policy.state_dict().values())
            print("weights", key, record.seed, hashlib.sha256(weights).hexdigest(), sorted(record.snapshots))
print("parts", used.parts())
print("processes", "joblib" in sys.modules)
"""


def test_side_by_side_gives_what_one_after_the_other_gives(tmp_path):
    said = {}
    for threads in ("1", "2"):
        there = tmp_path / threads
        (there / "notebooks").mkdir(parents=True)
        (there / "pyproject.toml").touch()
        environment = os.environ | {"ILBOOK_ROOT": str(there), "ILBOOK_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", SIDE_BY_SIDE], env=environment, capture_output=True, text=True, check=True
        )
        said[threads] = done.stdout.splitlines()
    assert said["1"][-1] == "processes False" and said["2"][-1] == "processes True"
    assert sum(line.startswith("weights") for line in said["1"]) == 12
    assert said["1"][:-1] == said["2"][:-1]  # the parts that were used come back from the processes too


def test_dictionaries_are_trained_key_by_key(tmp_path, capsys):
    run = Run("n", "lecture", 0, tmp_path, 1)
    settings = {3: SETTINGS, 4: Training(steps=4, batch=4, warm_up=1)}
    trained = run.train("line", {3: Line, 4: Line}, DATA, settings)
    assert [(key, one.name, one.history["step"][-1]) for key, one in trained.items()] == [
        (3, "line 3", 3),
        (4, "line 4", 4),
    ]
    assert "line 3: training (new)\nline 4: training (new)" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"line: policy is given for \[3, 4\] and data for \[3\]; give the same keys"):
        run.train("line", {3: Line, 4: Line}, {3: DATA}, SETTINGS)
    with pytest.raises(UserError, match="give the same keys"):
        run.train("line", Line, {}, SETTINGS)


def test_many_trainings_are_told_in_one_line(tmp_path, capsys):
    run = Run("n", "lecture", 0, tmp_path, 1)
    run.train("line", Line, dict.fromkeys(range(7), DATA), SETTINGS)
    run.train("line", Line, dict.fromkeys(range(8), DATA), SETTINGS)
    assert capsys.readouterr().out.splitlines() == [
        "line 0 to line 6: 7 trainings, 0 of them reused",
        "line 0 to line 7: 8 trainings, 7 of them reused",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (41.2, "41 s"), (119, "119 s"), (150, "2 min"), (7300, "2 hours"), (200000, "2 days")],
)
def test_durations(seconds, words):
    assert store._words(seconds) == words
