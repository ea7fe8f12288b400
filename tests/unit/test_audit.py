"""`ilbook audit`: published pages run again, and with other seeds; the runner is replaced by what a run leaves."""

import io
import json
from types import SimpleNamespace

import pytest

from ilbook import used
from ilbook.errors import UserError
from ilbook.page import claims
from ilbook.page.claims import Claim
from ilbook.page.run import Run
from ilbook.press import audit, cli, execute, ledger, record, results
from ilbook.stats import Estimate

CLAIM = Claim("a-wins", "A wins.", "action-chunking", "a", "b", "success", "higher", 0.1, "Table 1")
PAGES = ("01_one", "02_two", "03_three")


@pytest.fixture
def pages(book, monkeypatch, golden):
    """Three published pages; `effects[page, seed]` is what a run of one gives (else 0.3), `broken` what fails."""
    golden({"stats.estimate": {"x": 1}})
    made = SimpleNamespace(root=book.root, effects={}, broken=set(), ran=[])
    declare = "from ilbook.page.claims import Claim\nrun.declare(" + repr(CLAIM) + ")"

    def run_page(ids, profile, seed=None, fresh=False, progress=None):
        (name,) = ids
        made.ran.append((name, seed, fresh))
        if name in made.broken:
            return [{"id": name, "status": "failed", "why": "code cell 2 of 3: no"}]
        (path,) = book.root.glob(f"notebooks/*/{name}.ipynb")
        out = record.plan(book.root, path, profile, seed, []).out
        monkeypatch.setenv("ILBOOK_OUT", str(out))
        effect = made.effects.get((name, seed), 0.3)
        with used.collected():
            run = Run.start(name, profile, seed or 0)
            run.declare(CLAIM)
            run.judge("a-wins", Estimate(effect, effect - 0.1, effect + 0.1, 100, 1, "given"))
            run.table("summary", [{"policy": "a", "success": effect}])
            run.finish()
        return [{"id": name, "status": "ok", "why": "", "out": out}]

    monkeypatch.setattr(execute, "run", run_page)
    for name in PAGES:
        path = book.quick(name, declare)
        run_page([name], "lecture")
        ledger.publish(record.plan(book.root, path, "lecture", None, []).out, name, "lecture")
    made.ran.clear()
    return made


def run(pages=3, seeds=0, draw=0, profile="lecture"):
    return audit.run(pages, seeds, profile, draw, io.StringIO())


def test_pages_that_repeat_are_fine(pages):
    rows = run()
    assert {row["notebook"] for row in rows} == set(PAGES)
    assert all((row["changed"], row["moved"], row["why"], row["ok"]) == ([], 0, "", True) for row in rows)
    assert pages.ran == [(row["notebook"], None, True) for row in rows], "from nothing, not from the store"
    assert "same  0" in audit.words(rows[0])


def test_two_pages_are_drawn_and_the_draw_can_be_repeated(pages):
    said = io.StringIO()
    first = audit.run(2, 0, "lecture", None, said)
    draw = int(said.getvalue().split()[3].strip(":"))
    assert [row["notebook"] for row in run(2, draw=draw)] == [row["notebook"] for row in first]
    assert len({tuple(row["notebook"] for row in run(1, draw=draw)) for draw in range(9)}) > 1


def test_numbers_that_moved_without_a_reason_fooled_the_traces(pages, capsys):
    pages.effects["01_one", None] = 0.31
    (row,) = (row for row in run() if row["notebook"] == "01_one")
    assert row["changed"] == [] and row["moved"] == pytest.approx(0.01) and not row["ok"]
    assert audit.words(row) == "FAIL  01_one (lecture): numbers moved by 0.01 at most"
    assert cli.main(["audit", "--pages", "3", "--seeds", "0"]) == 1
    assert "FAIL  01_one" in capsys.readouterr().out


def test_a_changed_verdict_is_said(pages):
    pages.effects["02_two", None] = -0.3
    (row,) = (row for row in run() if row["notebook"] == "02_two")
    assert row["changed"] == ["a-wins: supported -> contradicted"] and row["moved"] is None and not row["ok"]
    assert "a-wins: supported -> contradicted; more than numbers moved" in audit.words(row)
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"threads": 99}, "another threads"),
        ({"python": "3.99", "machine": {}}, "another machine, another python"),
        ({"parts": {"stats.estimate": "0"}}, "changed: stats.estimate"),
    ],
)
def test_a_stale_result_or_another_machine_explains_it(pages, change, why):
    path = claims.published_path("01_one", "lecture")
    both = json.loads(path.read_text())
    both["provenance"] |= change
    path.write_text(json.dumps(both))
    pages.effects["01_one", None] = 0.31
    (row,) = (row for row in run() if row["notebook"] == "01_one")
    assert row["why"] == why and row["ok"] and f"explained by: {why}" in audit.words(row)


def test_a_page_that_fails_is_not_fine(pages):
    pages.broken.add("01_one")
    (row,) = (row for row in run() if row["notebook"] == "01_one")
    assert not row["ok"] and audit.words(row) == "FAIL  01_one (lecture): code cell 2 of 3: no"


def test_outcomes_of_other_seeds_are_kept_and_counted(pages):
    pages.effects["01_one", 2] = 0.15
    rows = [row for row in run(seeds=2) if row["notebook"] == "01_one"]
    assert [(row["seed"], row["verdicts"]) for row in rows[1:]] == [
        (1, {"a-wins": "supported"}),
        (2, {"a-wins": "inconclusive"}),
    ]
    assert audit.words(rows[2]) == "seed  01_one (lecture, seed 2): a-wins inconclusive"
    kept = json.loads(claims.replications_path().read_text())["01_one"]["lecture"]["a-wins"]
    assert kept.keys() == {"1", "2"} and kept["2"]["effect"] == 0.15
    (row,) = (row for row in results.rows() if (row["notebook"], row["profile"]) == ("01_one", "lecture"))
    assert row["replications"] == "supported in 2 of 3 seeds"
    assert [row["seed"] for row in run(1, seeds=2)][1:] == [3, 4], "seeds that none has tried"


def test_what_other_code_gave_is_tried_again(pages, golden):
    run(seeds=1)
    golden({"stats.estimate": {"x": 2}})
    for name in PAGES:
        execute.run([name], "lecture")
        (path,) = pages.root.glob(f"notebooks/*/{name}.ipynb")
        ledger.publish(record.plan(pages.root, path, "lecture", None, []).out, name, "lecture")
    assert all(row["replications"] is None for row in results.rows())
    assert [row["seed"] for row in run(1, seeds=1)] == [None, 1]


def test_nothing_published_is_said(pages):
    with pytest.raises(UserError, match="no page has a published full result"):
        run(profile="full")


def test_the_command_prints_rows(pages, capsys):
    assert cli.main(["audit", "--pages", "1", "--json", "--draw", "5"]) == 0
    out, err = capsys.readouterr()
    assert [row["seed"] for row in json.loads(out)] == [None, 1] and "drawn with --draw 5" in err
