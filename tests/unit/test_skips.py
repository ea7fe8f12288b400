"""On CI a test that was skipped for a reason that nobody listed fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KNOWN = "under gravity an arm settles into its servos"


@pytest.mark.parametrize(
    ("why", "mode", "fails"), [(KNOWN, "known", False), ("no time", "known", True), ("no time", "", False)]
)
def test_a_new_skip_fails_where_that_is_asked_for(tmp_path, why, mode, fails):
    (tmp_path / "test_one.py").write_text(f"import pytest\ndef test_one():\n    pytest.skip({why!r})\n")
    for name in ("conftest.py", "skips.txt"):
        (tmp_path / name).write_text((ROOT / "tests" / name).read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", tmp_path],
        env=os.environ | {"ILBOOK_SKIPS": mode},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stdout
    assert (f"was skipped: {why} (not in tests/skips.txt)" in done.stdout) == fails


def test_every_listed_reason_is_one_that_a_test_gives():
    source = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py") if file != Path(__file__))
    for reason in (ROOT / "tests" / "skips.txt").read_text().splitlines():
        assert reason.startswith("#") or reason in source, reason
