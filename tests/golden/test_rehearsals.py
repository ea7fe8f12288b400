"""What must make results stale, and what must not: the package is changed in a copy, and its traces are replayed."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from ilbook.page import versions
from tests.golden import registry
from tests.golden.test_golden import PACKAGE

REPLAY = """
import json, sys
from tests.golden import registry
print(json.dumps({part: registry.compare(part) for part in sys.argv[1:]}))
"""


@pytest.fixture
def changed(tmp_path):
    """A function that changes files of a copy of the package and says which of these parts then behave otherwise."""

    def moved(edit, parts: list[str]) -> set[str]:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, tmp_path / "ilbook", ignore=ignore, dirs_exist_ok=True)
        shutil.copytree(versions.GOLDEN, tmp_path / "tests" / "golden", ignore=ignore, dirs_exist_ok=True)
        shutil.copytree(versions.GOLDEN.with_name("contract"), tmp_path / "tests" / "contract", dirs_exist_ok=True)
        edit(tmp_path / "ilbook")
        done = subprocess.run(
            [sys.executable, "-c", REPLAY, *parts],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), "MUJOCO_GL": "disable"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return {part for part, words in json.loads(done.stdout.splitlines()[-1]).items() if words}

    return moved


def rename(package, module: str) -> str:
    """Give every private function of a module another name, in the whole package."""
    names = set(re.findall(r"(?m)^def (_[a-z]\w*)\(", (package / module).read_text()))  # methods may be hooks
    assert names, f"{module} has no private helper any more"
    for file in package.rglob("*.py"):
        text = file.read_text()
        for name in names:
            text = re.sub(rf"\b{name}\b", f"{name}_by_another_name", text)
        file.write_text(text)


@pytest.mark.parametrize("room", ["stats", "tasks"])
def test_a_renamed_helper_moves_nothing(changed, room):
    parts = [part for part in registry.chosen([]) if part.startswith(f"{room}.") and ":" not in part]
    assert parts
    module = {"stats": "stats/power.py", "tasks": "tasks/arm.py"}[room]
    assert changed(lambda package: rename(package, module), parts) == set()


def test_a_changed_formula_moves_its_part(changed):
    def edit(package):
        file = package / "nets" / "mlp.py"
        file.write_text(file.read_text().replace("nn.ReLU()", "nn.GELU()"))

    assert changed(edit, ["nets.mlp", "stats.intervals"]) == {"nets.mlp"}


def test_one_per_cent_more_friction_moves_pusht_alone(changed):
    parts = ["tasks.pusht", "tasks.avoid", "tasks.insert", "nets.mlp"]

    def edit(package):
        file = package / "tasks" / "pusht.xml"
        text, found = re.subn(
            r'(friction(?:loss)?=")([\d.]+)', lambda hit: f"{hit[1]}{1.01 * float(hit[2]):.6g}", file.read_text()
        )
        assert found, "pusht.xml has no friction any more"
        file.write_text(text)

    assert changed(edit, parts) == {"tasks.pusht"}
