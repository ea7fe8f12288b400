"""Every notebook runs to its end in the smoke profile, and fast enough to be run often."""

from pathlib import Path

import pytest

from ilbook.book import execute, notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = notebook.paths(ROOT)
SECONDS = 20  # a smoke run, kernel start included


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebook was found: nothing would be run"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_the_smoke_profile(path, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(ROOT))
    (row,) = execute.run([path.stem], "smoke")
    assert row["status"] in execute.GOOD, f"{row['why']}\n{row['source']}\n" + "\n".join(row["trace"] or ())
    assert row["seconds"] <= SECONDS
    assert all(claim["verdict"] == "not evaluated" for claim in row["claims"])
