"""`ilbook claims --check` and `--accept`: no published verdict changes or ages in silence."""

import json

import pytest

from ilbook import used
from ilbook.errors import UserError
from ilbook.page import claims
from ilbook.page.claims import Claim
from ilbook.page.run import Run
from ilbook.paths import write_file
from ilbook.press import cli, ledger
from ilbook.stats import Estimate

IDS = ("a-wins", "c-wins")


def claim(name):
    return Claim(name, f"{name}.", "action-chunking", "a", "b", "success", "higher", 0.1, "Table 1")


DECLARE = "from ilbook.page.claims import Claim\n" + "\n".join(
    f'Claim(id="{name}", sentence="x.", method="m", policy="a", baseline="b", metric="success", '
    'direction="higher", minimum=0.1, source="s")'
    for name in IDS
)


@pytest.fixture
def published(book, capsys):
    """A book with one published result of two claims, and functions to publish another and to check."""

    class Published:
        root = book.root

        @staticmethod
        def page(code):
            book.quick("01_page", f"{DECLARE}\n{code}")

        @staticmethod
        def publish(effects=(0.3, 0.3), profile="lecture"):
            with used.collected():  # whatever other tests used, this run used nothing
                run = Run.start("01_page", profile)
                for name, effect in zip(IDS, effects, strict=True):
                    run.declare(claim(name))
                    run.judge(name, Estimate(effect, effect - 0.05, effect + 0.05, 100, 1, "given"))
                run.finish()
            capsys.readouterr()
            return ledger.publish(run.out, "01_page", profile)

        @staticmethod
        def changelog(*entries):
            write_file(
                book.root / "CHANGELOG.md", "# Changelog\n\n### Added\n\n" + "\n".join(f"- {e}" for e in entries)
            )

        @staticmethod
        def check(*words):
            capsys.readouterr()
            status = cli.main(["claims", *(words or ["--check"])])
            return status, capsys.readouterr().out

    published = Published()
    published.page("x = 1")
    published.publish()
    return published


def test_a_fresh_result_is_fine(published):
    status, said = published.check()
    assert status == 0 and said == "2 published verdicts checked, 0 problems\n".replace("problems", "with a problem")
    assert json.loads(ledger.file().read_text()) == {
        f"01_page/lecture/{name}": {"verdict": "supported", "changelog": []} for name in IDS
    }


def test_nothing_published_is_fine(book, capsys):
    assert cli.main(["claims", "--check"]) == 0
    assert "0 published verdicts checked" in capsys.readouterr().out


def test_a_stale_result_is_named_with_its_cause(published):
    published.page("x = 2")
    status, said = published.check()
    assert status == 1 and "FAIL  a-wins (01_page, lecture)" in said
    assert "stale (the notebook changed); run and publish it again" in said and "2 with a problem" in said


def test_a_part_that_behaves_otherwise_is_named(published):
    path = claims.published_path("01_page", "lecture")
    both = json.loads(path.read_text())
    both["provenance"]["parts"] = {"nets.mlp": "0"}
    path.write_text(json.dumps(both))
    assert "stale (changed: nets.mlp)" in published.check()[1]
    both["provenance"].pop("parts")
    path.write_text(json.dumps(both))
    assert "stale (it does not say which parts ran)" in published.check()[1]


def test_a_changed_verdict_needs_an_entry(published):
    published.publish(effects=(0.3, -0.3))
    status, said = published.check()
    assert status == 1 and "the verdict changed (supported -> contradicted)" in said
    assert "FAIL  c-wins" in said and "a-wins" not in said
    status, _ = published.check("--accept")
    assert status == 1 and json.loads(ledger.file().read_text())["01_page/lecture/c-wins"]["verdict"] == "supported"
    published.changelog("The claim `c-wins` is now contradicted.")
    status, said = published.check()
    assert status == 0 and "note  c-wins" in said, "an entry is all that the check asks for"
    status, said = published.check("--accept")
    assert status == 0 and "recorded: c-wins" in said and "note" not in said
    assert json.loads(ledger.file().read_text())["01_page/lecture/c-wins"]["verdict"] == "contradicted"


def test_an_old_entry_tells_of_no_new_change(published):
    published.changelog("`c-wins` is contradicted.", "`c-wins` is supported.")
    published.publish(effects=(0.3, -0.3))
    assert published.check("--accept")[0] == 0
    published.publish(effects=(0.3, 0.3))
    assert published.check()[0] == 1, "the entry 'supported' was there before"
    published.changelog("`c-wins` is contradicted.", "`c-wins` is supported.", "`c-wins` is supported again.")
    assert published.check()[0] == 0


@pytest.mark.parametrize(
    ("entry", "enough"),
    [
        ("`c-wins` is contradicted.", True),
        ("c-wins:\n  contradicted", True),
        ("`c-wins` went from supported to contradicted.", False),
        ("`c-wins` and `a-wins` are contradicted.", True),
        ("`a-wins` is supported, `c-wins` is contradicted.", True),
        ("`c-wins` is supported, `a-wins` is contradicted.", False),
        ("`c-wins` is measured anew.", False),
        ("`ac-wins` is contradicted.", False),
        ("Contradicted claims are red.", False),
    ],
)
def test_which_entries_tell_of_a_verdict(published, entry, enough):
    published.publish(effects=(0.3, -0.3))
    published.changelog("Another entry.", entry)
    assert (published.check()[0] == 0) is enough


def test_a_result_that_is_gone_is_a_change(published):
    claims.published_path("01_page", "lecture").unlink()
    status, said = published.check()
    assert status == 1 and "supported -> no longer published" in said
    published.changelog("`a-wins` and `c-wins` are not evaluated any more.")
    assert published.check()[0] == 0
    assert published.check("--accept")[0] == 0
    assert json.loads(ledger.file().read_text()) == {}


def test_a_result_that_never_was_on_record_needs_an_entry(published):
    ledger.file().unlink()
    status, said = published.check()
    assert status == 1 and "not on record -> supported" in said
    published.changelog("`a-wins` and `c-wins` are supported.")
    assert published.check("--accept")[0] == 0 and published.check()[0] == 0


def test_a_result_without_a_notebook_is_stale(published):
    next(published.root.glob("notebooks/*/01_page.ipynb")).unlink()
    assert "its notebook is gone" in published.check()[1]


def test_the_rows_as_json(published):
    rows = json.loads(published.check("--check", "--json")[1])
    keys = {"id", "notebook", "profile", "accepted", "verdict", "stale", "problems", "note"}
    assert all(row.keys() == keys for row in rows) and len(rows) == 2


def test_a_damaged_ledger_is_named(published):
    ledger.file().write_text('{"01_page/lecture/a-wins": "supported"}')
    with pytest.raises(UserError, match=r"verdicts\.json is damaged; restore it from git"):
        ledger.rows()
    assert published.check()[0] == 2


def test_the_repository_has_its_verdicts_on_record():
    """What is committed in data/results says the same as the ledger; staleness is for the release check."""
    assert [row["id"] for row in ledger.rows() for problem in row["problems"] if "stale" not in problem] == []
