"""CONTRIBUTING.md is followed: what it says to type makes a task, a policy and a page that keep every contract."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from ilbook.errors import UserError
from ilbook.press import cli, hygiene, new

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]
COPIED = ("ilbook", "tests", "notebooks", "pyproject.toml", "requirements.lock", "Makefile", "references.bib")
PAGE = "2_cloning/01_median"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the repository to type in; the data, which nobody changes, are linked."""
    root = tmp_path_factory.mktemp("contributing") / "clone"
    root.mkdir()
    for name in COPIED:
        made = root / name
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, made, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            shutil.copy(ROOT / name, made)
    (root / "data").symlink_to(ROOT / "data")
    return root


def words(line: str) -> list[str]:
    """What a line of the page runs, by the Python of these tests in place of `.venv`."""
    first, *rest = shlex.split(line)
    if first == "make":  # without `make env`, which would install into the copy
        target, parts = rest
        assert target == "golden" and "$(PY) -m tests.golden $(PART)" in (ROOT / "Makefile").read_text()
        return [sys.executable, "-m", "tests.golden", *parts.removeprefix("PART=").split()]
    return [sys.executable, *{"ilbook": ["-m", "ilbook.press.cli"], ".venv/bin/python": []}[first], *rest]


def typed(clone: Path, line: str) -> tuple[int, str]:
    """Exit status and output of a line typed in the copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ILBOOK_")}
    environment |= {"PYTHONPATH": str(clone), "PYTEST_ADDOPTS": "-p no:cacheprovider", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words(line), cwd=clone, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_what_the_page_says_to_type_works(clone):
    assert [block[0].split()[:3] for block in BLOCKS] == [["ilbook", "new", kind] for kind in new.THEN]
    for first, *then in BLOCKS:
        status, said = typed(clone, first)
        assert status == 0, said
        assert [line.strip() for line in said.partition("type next:")[2].strip().splitlines()] == then

    def go_on(block: list[str]) -> list[tuple[str, int, str]]:
        return [(line, *typed(clone, line)) for line in block[1:]]

    with ThreadPoolExecutor() as pool:
        outcomes = [outcome for block in pool.map(go_on, BLOCKS) for outcome in block]
    for line, status, said in outcomes:
        if line.startswith("ilbook hygiene"):
            (problem,) = re.findall(r"^\S+\.ipynb.*", said, re.MULTILINE)
            assert status == 1 and problem.endswith("[draft]")
        else:
            assert status == 0, f"{line}\n{said}"
        if "pytest" in line:
            assert int(re.search(r"(\d+) passed", said)[1]) > 5, f"{line} looks at hardly anything\n{said}"
    recorded = {path.stem.partition("-")[0] for path in (clone / "tests" / "golden").glob("*.*.json")}
    assert {"tasks.reach", "experts.reach", "policies.linear"} <= recorded
    ruff = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=clone, capture_output=True)
    assert ruff.returncode == 0, ruff.stdout.decode()


def test_every_room_is_told_of():
    """And nothing that is not there."""
    told = set(re.findall(r"`(\w+)/`", TEXT.partition("The law")[0])) - {"ilbook"}
    assert told == {path.parent.name for path in (ROOT / "ilbook").glob("*/__init__.py")}


def test_the_page_is_short_and_named_in_the_readme():
    assert len(TEXT.splitlines()) < 90
    assert "(CONTRIBUTING.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("task", name) for name in ("Reach", "re-ach", "2reach", "reach_", "class", "tasks/reach", "../reach", "")),
        ("policy", "import"),
        *(("page", name) for name in ("01_median", "cloning/01_median", "2_cloning/median", "2_cloning/1_median")),
        *(("page", name) for name in ("2_cloning/01_Median", "1_a/2_b/01_c", "2_cloning/01_median.ipynb", "2_a/01_b/")),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(book, capsys, kind, name):
    assert cli.main(["new", kind, name]) == 2
    said = capsys.readouterr().err
    assert f"{name!r} cannot name a {kind}; give " in said and said.count("\n") == 1
    assert not any(book.root.rglob("*.ipynb")) and not (book.root / "ilbook").exists()


@pytest.mark.parametrize(
    ("kind", "name", "there"),
    [
        ("task", "reach", "ilbook/tasks/reach.py"),
        ("task", "reach", "ilbook/experts/reach.py"),
        ("policy", "linear", "ilbook/policies/linear.py"),
        ("page", PAGE, f"notebooks/{PAGE}.ipynb"),
        ("page", PAGE, "notebooks/2_cloning/solutions/01_median.py"),
        ("page", PAGE, "notebooks/1_foundations/01_median.ipynb"),
    ],
)
def test_nothing_is_overwritten(book, kind, name, there):
    path = book.root / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match=f"{there} exists; choose another name"):
        new.stamp(kind, name)
    assert path.read_text() == "mine"
    assert [found for found in book.root.glob("[in]*/**/*") if found.is_file()] == [path]


def test_a_page_is_a_good_notebook_with_its_formulas(book):
    (path, solutions), _ = new.stamp("page", PAGE)
    page = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(page)
    assert not hygiene.strip(path), "it is as a stripped notebook is"
    text = "".join(cell.source for cell in page.cells)
    assert 'Run.start("01_median", profile, seed)' in text and "$slug" not in text + solutions.read_text()
    assert text.count("$$\\mathcal{L}") == 2 and "$o_t$" in text


def test_the_names_in_a_module(book):
    (expert, task, model), _ = new.stamp("task", "pick_up2")
    assert "class PickUp2(Task)" in task.read_text() and 'gym_id = "ilbook/PickUp2-v0"' in task.read_text()
    assert '<mujoco model="pick_up2">' in model.read_text()
    assert "from ilbook.tasks.pick_up2 import PickUp2" in expert.read_text()
