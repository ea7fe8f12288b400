"""One place for versions, a quick import, and a repository that stays small and clean."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ilbook.press.doctor import read_lock

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = read_lock(ROOT / "requirements.lock")
INSTALLED_EXTRAS = ("book", "dev")
# Tried together; see section 7 of the design. Moving one of them is a decision, not an accident of `make lock`.
TRIED = {
    "torch": "2.13.0", "mujoco": "3.8.1", "numpy": "2.4.6", "pandas": "3.1.1", "gymnasium": "1.4.0",
    "papermill": "2.7.0", "jupyterlab": "4.6.6", "ipywidgets": "8.1.9", "mediapy": "1.2.7", "imageio-ffmpeg": "0.6.0",
    "seaborn": "0.13.2", "jupyter-book": "1.0.4.post1", "sphinx-book-theme": "1.2.0", "pydata-sphinx-theme": "0.16.1",
    "ipyevents": "2.0.4",
}  # fmt: skip
IMPORT_LIMIT_S = 0.3
FILE_LIMIT, REPOSITORY_LIMIT = 2_000_000, 50_000_000  # bytes
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"}
LIGHT = (
    "ilbook", "ilbook.press.cli", "ilbook.page.claims", "ilbook.page.run", "ilbook.stats", "ilbook.press.doctor",
    "ilbook.draw.gl",
)  # fmt: skip
HEAVY = {"torch", "mujoco", "matplotlib", "pandas", "scipy", "seaborn", "papermill", "IPython"}


def requirements(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for: the base and these extras."""
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [Requirement(line) for line in lines]


def test_the_lock_keeps_every_promise_of_pyproject():
    for wanted in requirements(*INSTALLED_EXTRAS):
        version = LOCK.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is not in requirements.lock; run `make lock`"
        assert wanted.specifier.contains(version), f"{wanted} is locked at {version}"


def test_the_lock_holds_the_versions_that_were_tried_together():
    assert {name: LOCK.get(name) for name in TRIED} == TRIED


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the lock is made for Python 3.11")
def test_the_lock_is_complete_and_holds_nothing_else():
    """Follow the requirements of the requirements: exactly these packages, at these versions, are in the lock."""
    queue, seen = [(wanted, "pyproject.toml") for wanted in requirements(*INSTALLED_EXTRAS)], set()
    while queue:
        wanted, source = queue.pop()
        name = canonicalize_name(wanted.name)
        assert name in LOCK, f"{name}, needed by {source}, is not in requirements.lock; run `make lock`"
        assert wanted.specifier.contains(LOCK[name]), f"{source} asks for {wanted}, locked is {LOCK[name]}"
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in metadata.requires(name) or []:
                needed = Requirement(line)
                if name == "torch" and re.match("nvidia|cuda|triton", needed.name):
                    continue  # asked for by torch's build for CUDA, which the lock leaves open
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    queue.append((needed, name))
    assert set(LOCK) == {name for name, _ in seen}


@pytest.mark.parametrize("python", ["3.11.2", "3.12.3", "3.13.0"])  # Debian 12, Ubuntu 24.04, and a newer one
def test_locked_packages_accept_the_pythons_of_our_readers(python):
    refused = []
    for name in LOCK:
        asked = metadata.metadata(name).get("Requires-Python") or ""
        if not SpecifierSet(asked).contains(python):
            refused.append(f"{name} {asked}")
    assert not refused


def test_conda_takes_its_versions_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert pip == ["-r requirements.lock", "-e ."], "pip installs the lock, then this package, and nothing else"
    assert {"python=3.11", "pip", "ffmpeg", "libegl"} <= set(conda)
    assert environment["name"] == PROJECT["name"]
    names = {canonicalize_name(re.split("[=<> ]", line)[0]) for line in conda}
    assert not names & set(LOCK), "this package would have a version in two places"
    assert [line for line in conda if re.search("[=<>]", line)] == ["python=3.11"], "versions belong into the lock"


def test_the_oldest_python_is_the_same_everywhere():
    assert PROJECT["requires-python"] == ">=3.11"
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["ruff"]["target-version"] == "py311"
    assert "Python 3.11" in (ROOT / "requirements.lock").read_text().splitlines()[0]


def test_the_package_is_installed_from_this_tree_with_its_command_and_models():
    import ilbook

    assert Path(ilbook.__file__).resolve().is_relative_to(ROOT)
    assert ilbook.__version__ == PROJECT["version"] == metadata.version("ilbook")
    (command,) = metadata.entry_points(group="console_scripts", name="ilbook")
    assert callable(command.load())
    assert {extra for extra in PROJECT["optional-dependencies"]} == {"book", "dev", "robot", "scale"}
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "*.xml" in shipped["*"] and "*.toml" in shipped["ilbook.press"]


def test_importing_the_package_is_quick():
    code = "import time; start = time.perf_counter(); import ilbook; print(time.perf_counter() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(3)]
    assert min(times) < IMPORT_LIMIT_S, f"import ilbook took {times} s"


@pytest.mark.parametrize("module", LIGHT)
def test_nothing_heavy_comes_with_an_import(module):
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """What git keeps, or would keep."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository: a downloaded archive is checked where it was made")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    found = [path for path in paths if path.is_file()]
    assert len(found) > 20, "git lists hardly any file"
    return found


def test_files_are_small(files):
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in files}
    assert not {str(path): size for path, size in sizes.items() if size > FILE_LIMIT}
    assert sum(sizes.values()) < REPOSITORY_LIMIT


def test_there_are_no_pickles_and_nothing_that_is_made(files):
    assert not [path for path in files if path.suffix in PICKLES]
    made = {".venv", "build", "__pycache__", ".ipynb_checkpoints", ".DS_Store"}
    assert not [path for path in files if made & set(path.relative_to(ROOT).parts)]


def test_notebooks_have_no_outputs(files):
    notebooks = [path for path in files if path.suffix == ".ipynb"]
    assert notebooks, "no notebook was found to check"
    for path in notebooks:
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            assert not cell.get("outputs") and cell.get("execution_count") is None, f"{path.name}, cell {number}"


def test_no_text_names_a_folder_of_somebodys_machine_or_a_package_host(files):
    folders = r"(?<![\w.:/~-])/(?:home|root|Users|work|tmp)/[\w.]"
    # Written so that this file does not name them either.
    hosts = r"(?:pypi|pythonhosted|anaconda|npmjs)[.](?:org|com)|pytorch[.]org/whl"
    found = []
    for path in files:
        if "mathjax" in path.parts or path.suffix in {".npz", ".mp4", ".png", ".ico", ".woff", ".safetensors"}:
            continue
        pattern = hosts if "tests" in path.parts else f"{folders}|{hosts}"  # tests of this rule elsewhere need examples
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
)
def test_waiting_threads_free_their_cores_soon_unless_told_otherwise(given, found):
    code = "import os, ilbook; print(os.environ.get('GOMP_SPINCOUNT'))"
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == found
