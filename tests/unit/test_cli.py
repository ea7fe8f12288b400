"""The `ilbook` command: what it prints where, and what it answers to wrong input."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ilbook import errors
from ilbook.press import cli, execute

PACKAGE = Path(cli.__file__).parents[1]
ROW = {
    "id": "01_page", "status": "ok", "seconds": 2.0, "peak_mb": 10.0, "why": "", "trace": [],
    "claims": [], "page": "build/01_page.html", "out": "build/runs/01_page",
}  # fmt: skip
CLAIM = (
    'from ilbook.page.claims import Claim\nClaim(id="a-wins", sentence="A wins.", method="action-chunking", '
    'policy="a", baseline="b", metric="success", direction="higher", minimum=0.1, source="Table 1")'
)


def ilbook(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ilbook.press.cli", *words],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rum"], "unknown command 'rum'; nearest valid name: 'run'"),
        (["data", "mak"], "unknown data command 'mak'; nearest valid name: 'make'"),
        (["run", "01_pag"], "unknown notebook '01_pag'; nearest valid name: '01_page'"),
        (["run", "--profile", "lectur"], "unknown profile 'lectur'; nearest valid name: 'lecture'"),
        (["run", "--set", "sed=3"], "unknown parameter of 01_page 'sed'; nearest valid name: 'seed'"),
        (["run", "--seed", "-1"], "--seed"),
        (["run", "--jobs", "two"], "'two' is not a whole number"),
        (["run", "--quick"], "unrecognized arguments: --quick"),
        (["hygiene", "none.ipynb"], "there is no notebook at none.ipynb"),
    ],
)
def test_wrong_input_gets_one_sentence_and_status_2(book, capsys, words, sentence):
    book.quick("01_page", parameters="speed: float = 1.0  # how fast\n")
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("ilbook: ") and err.count("\n") == 1
    assert sentence in err


def test_an_empty_book_has_nothing_to_run_or_check(book, capsys):
    for words in (["run"], ["hygiene"], ["book"]):
        assert cli.main(words) == 2
        assert "no notebook" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "expected"), [("ok", 0), ("reused", 0), ("failed", 1), ("timeout", 1), ("incomplete", 1)]
)
def test_run_exits_with_1_if_any_notebook_failed(book, monkeypatch, capsys, status, expected):
    rows = [ROW, ROW | {"id": "02_page", "status": status}]
    monkeypatch.setattr(execute, "run", lambda *_, **__: rows)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    assert cli.main(["run", "--json"]) == expected
    printed = json.loads(capsys.readouterr().out)
    assert [set(row) for row in printed] == [{"id", "status", "seconds", "peak_mb", "claims"}] * 2


def test_run_says_where_page_and_videos_lie(book, monkeypatch, capsys):
    claim = {"id": "a-wins", "verdict": "contradicted", "effect": -0.2, "low": -0.3, "high": -0.1, "n": 100}
    row = ROW | {"page": book.root / "build" / "x.html", "out": book.root / "build" / "runs", "claims": [claim]}
    monkeypatch.setattr(execute, "run", lambda *_, **__: [row])
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.chdir(book.root)
    assert cli.main(["run"]) == 0
    out = capsys.readouterr().out
    assert "01_page page: build/x.html" in out and "01_page numbers and videos: build/runs" in out
    assert "1 contradicted" in out and "effect -0.200, 95 % interval -0.300 to -0.100, n = 100" in out


@pytest.mark.slow
def test_a_real_run_prints_nothing_but_json(book):
    book.quick(
        "01_page", "import sys, warnings\nprint('noise', file=sys.stderr)\nwarnings.warn('noise')\nprint('noise')"
    )
    done = ilbook("run", "--profile", "smoke", "--json")
    assert done.returncode == 0
    (row,) = json.loads(done.stdout)
    assert (row["id"], row["status"], row["claims"]) == ("01_page", "ok", [])
    assert row["seconds"] > 0 and row["peak_mb"] > 10
    assert len(done.stderr.splitlines()) == 2, "one line of introduction, one for the notebook"


def test_claims_has_one_row_per_claim_and_profile(book, capsys):
    book.quick("01_page", CLAIM)
    assert cli.main(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["profile"], row["verdict"]) for row in rows] == [
        ("a-wins", "lecture", "not evaluated"),
        ("a-wins", "full", "not evaluated"),
    ]
    assert all(row.keys() > {"method", "sentence", "effect", "low", "high", "minimum", "n", "stale"} for row in rows)
    assert cli.main(["claims"]) == 0
    assert capsys.readouterr().out.count("a-wins") == 2


def test_tasks_are_described(capsys):
    assert cli.main(["tasks", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"avoid", "insert", "lift", "pickplace", "pusht"} <= {row["name"] for row in rows}
    for row in rows:
        assert set(row) == {"name", "gym_id", "obs", "action", "hz", "max_steps", "summary", "perturbations"}
        assert row["summary"].endswith(".") and row["gym_id"].startswith("ilbook/")


def test_json_goes_to_standard_output_alone_whatever_a_command_prints(book, monkeypatch, capsys):
    def noisy(_):
        print("noise")
        return cli.Answer([1], "text")

    monkeypatch.setattr(cli, "_tasks", noisy)
    assert cli.main(["tasks", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ([1], "noise\n")


def test_an_interrupt_is_status_130(book, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_tasks", interrupted)
    assert cli.main(["tasks"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_error_that_is_not_the_users_is_not_hidden(book, monkeypatch):
    def broken(_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "_tasks", broken)
    with pytest.raises(RuntimeError):
        cli.main(["tasks"])


def test_a_reader_that_stops_early_is_no_error(book):
    book.quick("01_page", CLAIM)
    command = f"{sys.executable} -m ilbook.press.cli claims | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_tells_by_its_status(monkeypatch, capsys):
    from ilbook.press import doctor

    good = {"check": "python", "ok": True, "detail": "Python 3.11", "fix": ""}
    bad = {"check": "disk", "ok": False, "detail": "full", "fix": "remove build/"}
    for rows, status in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(doctor, "checks", lambda rows=rows: rows)
        assert cli.main(["doctor"]) == status
    assert "FAIL  disk: full\n      remove build/" in capsys.readouterr().out


def test_nothing_heavy_is_imported_to_start():
    heavy = ("torch", "mujoco", "papermill", "pandas", "numpy")
    script = f"import sys, ilbook.press.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
    best = min(_seconds("import ilbook") - _seconds("pass") for _ in range(3))
    assert best < 0.3


def _seconds(script):
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(PACKAGE)}, check=True)
    return time.perf_counter() - begun


def test_user_errors_keep_their_sentence(book, monkeypatch, capsys):
    def wrong(_):
        raise errors.UserError("the sky is green; look again")

    monkeypatch.setattr(cli, "_tasks", wrong)
    assert cli.main(["tasks"]) == 2
    assert capsys.readouterr().err == "ilbook: the sky is green; look again\n"
