import functools
import subprocess
import sys

import numpy as np
import pytest
import torch

from ilbook.errors import UserError
from ilbook.page import sources
from ilbook.page.fingerprint import array_hash, object_hashes
from ilbook.page.run import Run

NOTEBOOK = """
import functools, math
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn
from ilbook import stats

steps = 100
unused = 1

@dataclass(frozen=True)
class Settings:
    width: int = 8

class Net(nn.Module):
    "A net."
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, width())
    def forward(self, x):
        return self.layer(x)

def width():
    return settings.width

settings = Settings()

@torch.no_grad()
def count():
    return steps

def fit(module, rate=0.1):
    "Train."
    # a comment
    return {"loss": [stats.wilson(1, 2).effect * count() for _ in range(3) if 1 in {1, 2}]}
"""


def run_cells(source=NOTEBOOK):
    """The globals of a kernel that ran `source`."""
    names = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), names)
    return names


def hashes(source=NOTEBOOK):
    names = run_cells(source)
    return object_hashes({"make": names["Net"], "fit": names["fit"]})


def changed(old, new):
    before, after = hashes(), hashes(NOTEBOOK.replace(old, new))
    assert NOTEBOOK.replace(old, new) != NOTEBOOK
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_what_notebook_code_uses_is_followed():
    assert {"make argument", "fit argument", "width", "settings", "count", "stats", "nn", "ilbook.stats"} <= set(
        hashes()
    )
    assert "unused" not in hashes()


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("steps = 100", "steps = 200", {"steps"}),
        ("width: int = 8", "width: int = 16", {"settings"}),
        ("return settings.width", "return settings.width + 1", {"width"}),
        ("return steps", "return steps + 0", {"count"}),
        ("rate=0.1", "rate=0.2", {"fit argument"}),
        ("range(3)", "range(4)", {"fit argument"}),
        ("return self.layer(x)", "return -self.layer(x)", {"make argument"}),
        ("stats.wilson", "stats.Estimate", {"fit argument"}),
        ("unused = 1", "unused = 2", set()),
        ('"Train."', '"Train the net."', set()),
        ('"A net."', '"A small net."', set()),
        ("# a comment", "# another\n    # and another", set()),
        ("\n\n", "\n\n\n", set()),
    ],
)
def test_a_change_is_seen_where_it_was_made(old, new, parts):
    assert changed(old, new) == parts


def test_hashes_do_not_depend_on_the_process():
    code = f"""
import json
from ilbook.page.fingerprint import object_hashes
names = {{"__name__": "__main__"}}
exec({NOTEBOOK!r}, names)
print(json.dumps(object_hashes({{"make": names["Net"], "fit": names["fit"]}}), sort_keys=True))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(sources.PACKAGE.parent)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def fingerprint(value):
    return object_hashes({"value": value})["value argument"]


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
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
        (len, sum),
        (Holder, int),
    ],
)
def test_values_count(wrap, one, other):
    assert fingerprint(wrap(one)) == fingerprint(wrap(one))
    assert fingerprint(wrap(one)) != fingerprint(wrap(other))


def test_tables_count():
    import pandas as pd

    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert fingerprint(table) == fingerprint(table.copy())
    assert fingerprint(table) != fingerprint(table.assign(b=["x", "z"]))
    assert fingerprint(table) != fingerprint(table.rename(columns={"a": "c"}))


def test_what_is_elsewhere_in_the_key_does_not_count():
    arrays = {"obs": np.zeros(3)}
    before = object_hashes({"value": closing_over(arrays)}, elsewhere=[arrays])
    arrays["obs"][0] = 1
    assert object_hashes({"value": closing_over(arrays)}, elsewhere=[arrays]) == before


def test_the_order_of_keys_does_not_count():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_what_is_kept_only_to_save_time_does_not_count():
    holder = Holder(2)
    before = fingerprint(holder)
    assert holder.twice == 4
    assert fingerprint(holder) == before


def test_cycles_end():
    holder = Holder(1)
    holder.value = [holder]
    assert fingerprint(holder) == fingerprint(holder)


def test_a_run_counts_by_its_code_only(tmp_path):
    one, other = (Run("n", profile, seed, tmp_path, 1) for profile, seed in (("smoke", 0), ("full", 1)))
    assert fingerprint(one) == fingerprint(other)
    assert "ilbook.page.run" in object_hashes({"value": one})


def test_package_functions_count_by_module_and_closure():
    def parts(function):
        return object_hashes({"value": function})

    assert "ilbook.errors" not in parts(sources.digest)
    assert "ilbook.stats" in parts(__import__("ilbook.stats").stats.wilson)
    assert parts(UserError) == parts(UserError)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_arrays_of_every_kind(dtype):
    one = torch.zeros(4, dtype=dtype)
    other = one.clone()
    other[-1] = 1
    assert array_hash(one) != array_hash(other)
    assert array_hash(other[::2]) == array_hash(one[::2])
    assert array_hash(one[:0]) != array_hash(one)
    assert array_hash(one[0]) != array_hash(other[-1])
