import json

import pytest

from ilbook import used
from ilbook.errors import UserError
from ilbook.page import claims
from ilbook.page.claims import Claim, Verdict
from ilbook.page.run import Run
from ilbook.press import generated, ledger, notebook, results
from ilbook.stats import Estimate

FIELDS = {
    "id": "a-beats-b",
    "sentence": "A <always> beats B.",
    "method": "action-chunking",
    "policy": "a",
    "baseline": "b",
    "metric": "success",
    "direction": "higher",
    "minimum": 0.1,
    "source": "Table 1",
}
KEYS = {
    "id", "method", "notebook", "sentence", "verdict", "effect", "low", "high", "minimum", "n", "seeds", "profile",
    "stale", "why", "commit", "smallest_visible", "replications",
}  # fmt: skip
ESTIMATE = Estimate(0.3, 0.2, 0.4, 100, 1, "given")
DECLARE = f"run.declare(Claim({', '.join(f'{name}={value!r}' for name, value in FIELDS.items())}))"


def write_notebook(path, *cells):
    cells = [{"cell_type": "code", "metadata": {}, "source": source} for source in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A repository with one notebook that declares one claim."""
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("ILBOOK_OUT", raising=False)
    (tmp_path / "pyproject.toml").touch()
    write_notebook(tmp_path / "notebooks" / "1_part" / "01_n.ipynb", DECLARE, "x = 1")
    return tmp_path


def finish(effect=0.3, profile="lecture", parts=(), seed=0):
    """What a run of the notebook does; returns its folder."""
    with used.collected():
        used.note(*parts)
        run = Run.start("01_n", profile, seed)
        run.declare(Claim(**FIELDS))
        run.judge("a-beats-b", Estimate(effect, effect - 0.1, effect + 0.1, 100, 1, "given"))
        run.finish()
    return run.out


def row(profile="lecture"):
    return next(row for row in results.rows() if row["profile"] == profile)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "A beats B"}, "is not a slug"),
        ({"sentence": " "}, "claim a-beats-b: sentence"),
        ({"metric": None}, "claim a-beats-b: metric"),
        ({"direction": "hihger"}, "nearest valid name: 'higher'"),
        ({"baseline": "a"}, "must name another policy"),
        ({"minimum": float("nan")}, "not a finite number"),
        ({"minimum": "0.1"}, "not a finite number"),
        ({"minimum": 0}, "must be > 0"),
    ],
)
def test_a_claim_checks_itself(change, message):
    with pytest.raises(UserError, match=message):
        Claim(**{**FIELDS, **change})


def test_one_rate_may_have_a_negative_minimum():
    claim = Claim(**{**FIELDS, "baseline": None, "direction": "lower", "minimum": -0.05})
    assert claim.minimum == -0.05


@pytest.mark.parametrize("word", claims.VERDICTS)
def test_a_verdict_shows_its_word_and_numbers(word):
    box = Verdict(Claim(**FIELDS), word, ESTIMATE, "lecture")._repr_markdown_()
    assert word.capitalize() in box and "+0.300" in box and "n = 100, 1 training seed" in box
    assert "A &lt;always&gt; beats B." in box and "\n" not in box


@pytest.mark.parametrize(
    ("profile", "baseline", "said"),
    [("lecture", "b", True), ("full", "b", True), ("full", None, False), ("smoke", "b", False)],
)
def test_a_comparison_says_what_it_could_have_seen(profile, baseline, said):
    box = Verdict(Claim(**{**FIELDS, "baseline": baseline}), "inconclusive", ESTIMATE, profile)._repr_markdown_()
    assert ("Smallest effect that this comparison could have seen: 0.143." in box) == said


@pytest.mark.parametrize("call", ["Claim", "claims.Claim"])
def test_declared_reads_without_running(tmp_path, call):
    source = f"raise SystemExit  # never run\n{DECLARE.replace('Claim(', call + '(')}"
    path = write_notebook(tmp_path / "n.ipynb", source)
    assert results.declared(notebook.read(path)) == [Claim(**FIELDS)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DECLARE.replace("minimum=0.1", "minimum=least"), "n.ipynb: something in `Claim.* is computed"),
        (DECLARE.replace("minimum=0.1", "minimum=-1"), "n.ipynb: claim a-beats-b: minimum -1"),
        (DECLARE.replace("minimum=0.1, ", ""), "n.ipynb: claim a-beats-b has no minimum effect"),
        (DECLARE + "\n" + DECLARE, "declared twice"),
        ("run.declare(Claim(**FIELDS))", "is computed"),
    ],
)
def test_declared_refuses(tmp_path, source, message):
    with pytest.raises(UserError, match=message):
        results.declared(notebook.read(write_notebook(tmp_path / "n.ipynb", source)))


def test_nothing_published(book):
    finish()
    rows = results.rows()
    assert [row["profile"] for row in rows] == ["lecture", "full"]
    for row in rows:
        assert row.keys() == KEYS
        assert (row["verdict"], row["effect"], row["stale"], row["why"]) == ("not evaluated", None, False, "")
        assert (row["notebook"], row["minimum"], row["commit"]) == ("01_n", 0.1, None)


def test_a_published_result(book):
    ledger.publish(finish(0.3), "01_n", "lecture")
    finish(0.5)
    found = row()
    assert (found["verdict"], found["effect"], found["n"], found["seeds"]) == ("supported", 0.3, 100, 1)
    assert (found["stale"], found["replications"]) == (False, None)
    assert found["smallest_visible"] == pytest.approx(0.143, abs=1e-3)
    assert row("full")["verdict"] == "not evaluated"


def test_a_change_of_code_makes_it_stale_and_is_said(book):
    ledger.publish(finish(0.3), "01_n", "lecture")
    notebook = book / "notebooks" / "1_part" / "01_n.ipynb"
    write_notebook(notebook, DECLARE, "x = 1  # a comment changes nothing")
    assert not row()["stale"]
    write_notebook(notebook, DECLARE, "x = 2")
    assert row()["stale"] and row()["why"] == "the notebook changed"


def test_a_result_without_the_claim_says_nothing_about_it(book):
    ledger.publish(finish(), "01_n", "lecture")
    write_notebook(book / "notebooks" / "1_part" / "01_n.ipynb", DECLARE.replace("a-beats-b", "other"))
    assert (row()["verdict"], row()["stale"]) == ("not evaluated", False)


def test_a_single_rate_has_no_smallest_visible_effect(book):
    alone = DECLARE.replace("baseline='b'", "baseline=None")
    write_notebook(book / "notebooks" / "1_part" / "01_n.ipynb", alone)
    path = ledger.publish(finish(), "01_n", "lecture")
    path.write_text(path.read_text().replace('"baseline": "b"', '"baseline": null'))
    assert row()["verdict"] == "supported" and row()["smallest_visible"] is None


def outcome(verdict, key):
    return {"verdict": verdict, "effect": 0.3, "low": 0.2, "high": 0.4, "key": key}


def test_runs_with_other_seeds_are_counted_if_all_else_is_equal(book):
    path = ledger.publish(finish(), "01_n", "lecture")
    key = claims.key_of(json.loads(path.read_text())["provenance"])
    seeds = {"1": outcome("supported", key), "2": outcome("inconclusive", key), "3": outcome("supported", "older")}
    kept = {"01_n": {"lecture": {"a-beats-b": seeds}}}
    claims.replications_path().write_text(json.dumps(kept))
    assert row()["replications"] == "supported in 2 of 3 seeds"
    assert row("full")["replications"] is None


def test_the_box_says_how_a_verdict_repeats_while_nothing_else_changed(book):
    def box(profile="lecture", **changes):
        return Verdict(Claim(**{**FIELDS, **changes}), "supported", ESTIMATE, profile)._repr_markdown_()

    assert "Repeated" not in box(), "there is no file yet"
    path = ledger.publish(finish(parts=["tasks.pusht"]), "01_n", "lecture")
    seeds = {"1": outcome("inconclusive", claims.key_of(json.loads(path.read_text())["provenance"]))}
    kept = {"00_gone": {"lecture": {"a-beats-b": seeds}}, "01_n": {"lecture": {"a-beats-b": seeds}}}
    claims.replications_path().write_text(json.dumps(kept))
    assert box().endswith(" Repeated: supported in 1 of 2 seeds.</div>")
    assert row()["replications"] == "supported in 1 of 2 seeds", "the words of the ledger"
    for other in (box("smoke"), box("full"), box(sentence="Of another page."), box(id="unknown")):
        assert "Repeated" not in other
    write_notebook(book / "notebooks" / "1_part" / "01_n.ipynb", DECLARE, "x = 2")
    assert "Repeated" not in box(), "these seeds tried other code"


def test_the_ledger_shows_all_of_it(book, golden):
    golden({"tasks.pusht": {"x": 1}, "stats.estimate": {"x": 1}})
    path = ledger.publish(finish(parts=["tasks.pusht"]), "01_n", "lecture")
    both = json.loads(path.read_text())
    both["provenance"]["commit"] = "0123456789ab+"
    path.write_text(json.dumps(both))
    seeds = {"1": outcome("supported", claims.key_of(both["provenance"]))}
    claims.replications_path().write_text(json.dumps({"01_n": {"lecture": {"a-beats-b": seeds}}}))
    page = generated.ledger()
    for words in ("supported in 2 of 2 seeds", "`0123456789ab+`", "| 0.143 |", "+0.300 (+0.200 to +0.400)"):
        assert words in page
    assert "stale" not in page.partition("## ")[2]
    golden({"tasks.pusht": {"x": 2}, "stats.estimate": {"x": 1}})
    page = generated.ledger()
    assert "{bdg-dark}`stale` 1" in page and "The lecture result is stale: changed: tasks.pusht." in page


def test_publish_keeps_result_and_provenance(book, monkeypatch):
    monkeypatch.setenv("ILBOOK_TOKEN", "abc")
    path = ledger.publish(finish(), "01_n", "lecture")
    assert path == book / "data" / "results" / "01_n" / "lecture.json"
    both = json.loads(path.read_text())
    assert both.keys() == {"result", "provenance"}
    assert "token" not in both["result"]


@pytest.mark.parametrize("asked", [("01_n", "full"), ("02_m", "lecture")])
def test_publish_refuses_another_run(book, asked):
    with pytest.raises(UserError, match="is not a result of"):
        ledger.publish(finish(), *asked)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_published_file_is_named(book, content):
    path = claims.published_path("01_n", "lecture")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=r"lecture\.json"):
        results.rows()


# -- what a table must be ---------------------------------------------------------------------------------------------
def episodes(starts=(0, 1, 2), policies=("a", "b")):
    import pandas as pd

    rows = [{"policy": p, "train_seed": 0, "start": s, "success": int(p == "a")} for p in policies for s in starts]
    return pd.DataFrame(rows, columns=["policy", "train_seed", "start", "success"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.iloc[:-1], "judged on different starts"),
        (lambda table: table.assign(start=[0, 1, 2, 0, 1, 3]), "judged on different starts"),
        (lambda table: table.assign(start=[0, 1, 1, 0, 1, 1]), "start 1 of training seed 0 twice"),
        (lambda table: table.iloc[:0], "unknown policy in the table 'a'"),
        (lambda table: table.iloc[:3], "starts|unknown policy"),
        (lambda table: table.assign(success=float("nan")), "has no success for start 0"),
    ],
)
def test_a_verdict_needs_the_same_starts_each_once(book, spoil, message):
    run = Run.start("01_n")
    run.declare(Claim(**FIELDS))
    with pytest.raises(UserError, match=message):
        run.judge("a-beats-b", spoil(episodes()))
    assert run.judge("a-beats-b", episodes()).verdict == "supported"


def test_a_claim_without_a_minimum_effect_is_refused():
    with pytest.raises(UserError, match=r"claim a-beats-b has no minimum effect.*minimum=0\.05"):
        Claim(**{name: value for name, value in FIELDS.items() if name != "minimum"})
