"""How well each shipped set can be cloned: measured, up to date, and within the bars that later parts need."""

import io
import json

import pytest

from ilbook.data import manifest
from ilbook.errors import UserError
from ilbook.press import demos as make
from ilbook.press import generated, learnability
from ilbook.stats import wilson

# What later parts build on: easy enough to be learned, hard enough to leave something to learn.
BARS = {"pusht": (0.80, 1.0), "pickplace": (0.80, 1.0), "insert_50": (0.30, 0.60)}


def test_every_shipped_set_was_measured_as_it_is():
    rows = learnability.rows()
    assert [row["set"] for row in rows] == list(manifest.entries())
    for row in rows:
        result = row["result"]
        assert result is not None, f"type: ilbook data learn {row['set']}"
        assert result["data"] == manifest.entries()[row["set"]]["sha256"], f"{row['set']} changed since it was measured"
        estimate = wilson(round(result["success"] * result["n"]), result["n"])
        assert (result["low"], result["high"]) == pytest.approx((estimate.low, estimate.high))
        assert result["n"] == 200 and result["train_seconds"] <= 600


@pytest.mark.parametrize("name", list(BARS))
def test_sets_are_neither_hopeless_nor_trivial(name):
    low, high = BARS[name]
    (row,) = (row for row in learnability.rows() if row["set"] == name)
    assert low <= row["result"]["success"] <= high


def test_more_demonstrations_and_better_ones_help():
    success = {row["set"]: row["result"]["success"] for row in learnability.rows()}
    assert success["insert_500"] > success["insert_50"]
    assert success["pusht_better"] > success["pusht_okay"] > success["pusht_worse"]


def test_results_are_added_to_the_file_and_show_when_they_are_old(monkeypatch, tmp_path, golden):
    ran = (
        "control.receding", "data.normalise", "data.windows", "learning.batches", "learning.fit", "nets.mlp",
        "policies.bc", "rollout.evaluate", "stats.intervals", "tasks.avoid",
    )  # fmt: skip
    golden({part: {"x": 1} for part in ran})
    monkeypatch.setattr(learnability, "STARTS", range(300_000, 300_002))
    monkeypatch.setattr(learnability, "file", lambda: tmp_path / "learnability.json")
    monkeypatch.setitem(learnability.PLAIN, "avoid", learnability.Plain(2, 1, (0, 1), steps=3, width=8))
    said = io.StringIO()
    (row,) = learnability.measure(["avoid"], said)
    assert row["set"] == "avoid" and row["n"] == 2 and row["policy"]["width"] == 8 and "avoid: " in said.getvalue()
    learnability.measure(["avoid"])
    stored = json.loads((tmp_path / "learnability.json").read_text())
    assert list(stored) == ["avoid"]
    assert set(ran) <= stored["avoid"]["parts"].keys()

    def stale(result):
        (tmp_path / "learnability.json").write_text(json.dumps({"avoid": result}))
        rows = {row["set"]: row for row in learnability.rows()}
        assert rows["pusht"]["result"] is None
        return rows["avoid"]["stale"]

    known = {part: version for part, version in stored["avoid"]["parts"].items() if version}
    result = {**stored["avoid"], "parts": known}
    assert stale(result) is False
    assert stale({**result, "data": "another file"}) is True
    golden({part: {"x": 2 if part == "learning.fit" else 1} for part in ran})
    assert stale(result) is True


def test_unknown_sets_are_refused():
    with pytest.raises(UserError, match="unknown data set 'pust'; nearest valid name: 'pusht'"):
        learnability.measure(["pust"])


def test_the_page_lists_every_set():
    page = generated.data_sets()
    for name, recipe in make.RECIPES.items():
        assert f"`{name}`" in page and recipe.what.split(",")[0] in page
    assert "not evaluated" not in page
