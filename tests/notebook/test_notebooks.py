"""Every notebook runs to its end in the smoke profile, and fast enough to be run often."""

from pathlib import Path

import pytest

from ilbook.press import execute, notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = notebook.paths(ROOT)
SECONDS = 40  # a smoke run, kernel start included, on any machine; on an idle one the aim is 20
ATTEMPTS = 3  # a machine that is busy for a while does not decide


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebook was found: nothing would be run"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_the_smoke_profile(path, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(ROOT))
    took = []
    for attempt in range(ATTEMPTS):
        (row,) = execute.run([path.stem], "smoke", fresh=attempt > 0)
        assert row["status"] in execute.GOOD, f"{row['why']}\n{row['source']}\n" + "\n".join(row["trace"] or ())
        assert all(claim["verdict"] == "not evaluated" for claim in row["claims"])
        took.append(row["seconds"])
        if took[-1] <= SECONDS:
            break
    assert min(took) <= SECONDS
