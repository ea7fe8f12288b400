import functools
import json
import subprocess
import sys
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ilbook.data.episodes import Episodes
from ilbook.page import fingerprint, versions
from ilbook.page.run import Run

NOTEBOOK = """
import functools, math
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn
import ilbook
from ilbook import stats
from ilbook.data.windows import Windows
from ilbook.policies.bc import MLPPolicy

steps = 100
unused = 1

@dataclass(frozen=True)
class Settings:
    width: int = 8

class Layer(nn.Module):
    "A layer."
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, width())
        self.slope = 0.1
    def forward(self, x):
        return self.inner(x).relu()

class Net(MLPPolicy):
    "A net."
    rate = 0.5
    def __init__(self):
        super().__init__(2, 1, Windows(1, 4), width=8)
        self.layer = nn.Sequential(Layer(), nn.Dropout(0.1))
        self.history = {}
    def loss(self, batch, generator=None):
        "Train."
        # a comment
        return super().loss(batch) + penalty(self) * self.rate * stats.wilson(1, 2).effect
    @property
    def doubled(self):
        return 2 * self.rate

def width():
    return settings.width

def penalty(net, power=2):
    return sum(abs(p) ** power for p in net.parameters()) * count()

settings = Settings()

@torch.no_grad()
def count():
    return steps

torch.manual_seed(0)
net = Net()
"""


def run_cells(source=NOTEBOOK):
    """The globals of a kernel that ran `source`."""
    names = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), names)
    return names


def hashes(source=NOTEBOOK):
    return fingerprint.of(run_cells(source)["net"])


def changed(old, new):
    """Which entries of the key are others after a change of the notebook."""
    assert NOTEBOOK.replace(old, new) != NOTEBOOK
    before, after = hashes(), hashes(NOTEBOOK.replace(old, new))
    names = before["notebook"] | after["notebook"]
    found = {name for name in names if before["notebook"].get(name) != after["notebook"].get(name)}
    return found | {part for part in ("state", "parts") if before[part] != after[part]}


def test_what_an_object_reaches_is_followed(golden):
    parts = ["data.windows", "nets.mlp", "policies.base", "policies.bc", "stats.intervals"]
    golden({part: {"x": 1} for part in parts})
    found = hashes()
    assert found.keys() == {"notebook", "state", "parts"}
    names = found["notebook"].keys()
    assert {"object", "Net", "Net.loss", "Layer", "Layer.forward", "penalty", "count", "steps"} <= names
    assert not {"unused", "np"} & names
    assert found["parts"] == parts


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("steps = 100", "steps = 200", {"steps"}),
        ("return steps", "return steps + 0", {"count"}),
        ("abs(p) ** power", "p ** power", {"penalty"}),
        ("power=2", "power=3", {"penalty"}),
        ("rate = 0.5", "rate = 0.25", {"Net"}),
        ("self.rate * stats", "self.rate + stats", {"Net.loss"}),
        ("return 2 * self.rate", "return 3 * self.rate", {"Net.doubled"}),
        ("inner(x).relu()", "inner(x).tanh()", {"Layer.forward"}),
        ("self.slope = 0.1", "self.slope = 0.2", {"object", "Layer.__init__"}),
        ("Dropout(0.1)", "Dropout(0.2)", {"object", "Net.__init__"}),
        ("self.history = {}", "self.history = {1: 2}", {"object", "Net.__init__"}),
        ("manual_seed(0)", "manual_seed(1)", {"state"}),
        ("width: int = 8", "width: int = 16", {"object", "state", "settings", "Settings", "Settings.__init__"}),
        ("net = Net()", "net = Net()\nnet.layer[0].inner.bias.requires_grad_(False)", {"state"}),
        ("unused = 1", "unused = 2", set()),
        ('"Train."', '"Train the net."', set()),
        ('"A net."', '"A small net."', set()),
        ("# a comment", "# another\n        # and another", set()),
        ("\n\n", "\n\n\n", set()),
    ],
)
def test_a_change_is_seen_where_it_was_made(old, new, parts):
    assert changed(old, new) == parts


def test_a_helper_that_the_loss_calls_is_part_of_the_key():
    assert changed("* count()", "* (count() + 1)") == {"penalty"}


def test_hashes_do_not_depend_on_the_process():
    code = f"""
import json
from ilbook.page import fingerprint
names = {{"__name__": "__main__"}}
exec({NOTEBOOK!r}, names)
print(json.dumps(fingerprint.of(names["net"]), sort_keys=True))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(versions.GOLDEN.parents[1])},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and json.loads(outputs.pop()) == hashes()


def key(value):
    return fingerprint.of(value)["notebook"]


class Holder:
    def __init__(self, value):
        self.value = value

    @functools.cached_property
    def twice(self):
        return 2 * self.value


def closing_over(value):
    return lambda: value


@pytest.mark.parametrize(
    "wrap",
    [lambda x: x, lambda x: [x], lambda x: {"a": x}, Holder, closing_over, lambda x: functools.partial(print, x)],
)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        (None, "None"),
        ((1, 2), (2, 1)),
        ({1}, {2}),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros(3, np.float32), np.zeros(3)),
        (torch.zeros(3), torch.tensor([0.0, 0.0, -1.0])),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
        (torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)),
        (len, sum),
        (Holder, int),
        (np.linspace, np.arange),
        (np.add, np.multiply),
        (np.array([1, None]), np.array([2, None])),
        (deque([1]), deque([2])),
        (SimpleNamespace(a=1), SimpleNamespace(a=2)),
    ],
)
def test_values_count(wrap, one, other):
    assert key(wrap(one)) == key(wrap(one))
    assert key(wrap(one)) != key(wrap(other))


def test_weights_count_wherever_they_are_held():
    torch.manual_seed(0)
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    for wrap in (lambda x: x, lambda x: [x], Holder, closing_over):
        assert key(wrap(one)) == key(wrap(other))
        assert fingerprint.of(wrap(one))["state"] != fingerprint.of(wrap(other))["state"]


def test_tables_count():
    import pandas as pd

    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert key(table) == key(table.copy())
    assert key(table) != key(table.assign(b=["x", "z"]))
    assert key(table) != key(table.rename(columns={"a": "c"}))


def test_the_order_of_keys_does_not_count():
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})


def test_what_is_kept_only_to_save_time_does_not_count():
    holder = Holder(2)
    before = key(holder)
    assert holder.twice == 4
    assert key(holder) == before


def test_cycles_end():
    holder = Holder(1)
    holder.value = [holder]
    assert key(holder) == key(holder)

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n > 0 and even(n - 1)

    assert key(even) == key(even)


def test_a_run_counts_by_its_kind_only(tmp_path):
    one, other = (Run("n", profile, seed, tmp_path, 1) for profile, seed in (("smoke", 0), ("full", 1)))
    assert key(one) == key(other)


def test_modules_that_are_no_parts_do_not_count(golden):
    from ilbook import stats
    from ilbook.errors import UserError

    golden({"stats.intervals": {"x": 1}})
    assert fingerprint.of([UserError, versions.digest, stats.wilson, stats.Estimate])["parts"] == ["stats.intervals"]


def test_two_functions_of_one_name_are_two():
    names = run_cells("def make(n):\n    def inner():\n        return n\n    return inner\none, two = make(1), make(2)")
    both = key([names["one"], names["two"]])
    assert {"make.<locals>.inner", "make.<locals>.inner'"} <= set(both)
    assert both["make.<locals>.inner"] != both["make.<locals>.inner'"]


def test_of_episodes_only_the_arrays_that_are_looked_at_count():
    def episodes(**changes):
        arrays = {"obs": np.zeros((3, 2)), "action": np.zeros((3, 1)), "image": np.zeros((3, 1)), **changes}
        return Episodes(arrays, np.array([1, 3]))

    def of_data(data):
        return fingerprint.of_data(data, ("obs", "goal", "action"))

    assert of_data(episodes()).keys() == {"obs", "action", "episode_ends", "parts"}
    assert of_data(episodes()) == of_data(episodes(image=np.ones((3, 1))))
    assert of_data(episodes()) != of_data(episodes(obs=np.ones((3, 2))))


def test_episodes_and_batch_samplers_count_with_their_data(golden):
    from ilbook.learning.batches import WindowBatches

    golden({"learning.batches": {"x": 1}})

    def of(weights, obs=0.0):
        data = Episodes({"obs": np.full((3, 2), obs), "action": np.zeros((3, 1))}, np.array([1, 3]))
        return fingerprint.of_data(WindowBatches(data, weights), ("obs", "action"))

    assert of([1, 1, 2])["parts"] == ["learning.batches"]
    assert of([1, 1, 2]) == of([1, 1, 2])
    assert of([1, 1, 2]) != of([1, 2, 1])
    assert of([1, 1, 2]) != of([1, 1, 2], obs=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_arrays_of_every_kind(dtype):
    one = torch.zeros(4, dtype=dtype)
    other = one.clone()
    other[-1] = 1
    array_hash = fingerprint.array_hash
    assert array_hash(one) != array_hash(other)
    assert array_hash(other[::2]) == array_hash(one[::2])
    assert array_hash(one[:0]) != array_hash(one)
    assert array_hash(one[0]) != array_hash(other[-1])
