"""A small book in a temporary folder, for tests of the tools that run, check and build notebooks."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

import ilbook  # noqa: F401  first of all, because what it sets for threads has to stand before torch is imported

PARAMETERS = 'profile: str = "lecture"  # smoke, lecture or full\nseed: int = 0  # fixes every number\n'
FINISH = "run.finish()"
# A sentinel by hand: as good as Run.finish for the runner, without the seconds that importing torch takes.
QUICK_FINISH = """import json, os, pathlib
result = {"token": os.environ["ILBOOK_TOKEN"], "claims": []}
pathlib.Path(os.environ["ILBOOK_OUT"], "result.json").write_text(json.dumps(result))"""
SKIPS = Path(__file__).with_name("skips.txt")


def reason(report) -> str:
    """Why a test was skipped."""
    return str(report.longrepr[2]).removeprefix("Skipped: ")


def pytest_sessionfinish(session):
    """With ILBOOK_SKIPS=known, as on CI, a skip whose reason is not on the list fails: it has not looked."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("ILBOOK_SKIPS") != "known":
        return
    known = [line for line in SKIPS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for report in reporter.stats.get("skipped", []):
        if reason(report) not in known:
            reporter.write_line(f"{report.nodeid} was skipped: {reason(report)} (not in tests/{SKIPS.name})", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def cell(kind: str, source: str, *tags: str) -> dict:
    """One cell as JSON, without its id."""
    content = {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": source}
    return content | ({"outputs": [], "execution_count": None} if kind == "code" else {})


@dataclass(frozen=True)
class SmallBook:
    """A repository with notebooks made of given cells."""

    root: Path

    def add(self, name: str, *cells: dict, part: str = "1_foundations") -> Path:
        """Write a notebook of exactly these cells."""
        path = self.root / "notebooks" / part / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbered = [{"id": f"cell-{number}", **content} for number, content in enumerate(cells)]
        kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        content = {"cells": numbered, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path

    def quick(self, name: str, *sources: str, parameters: str = "", finish: str = QUICK_FINISH) -> Path:
        """Write a notebook of parameters, these code cells and a quick sentinel."""
        middle = [cell("code", source) for source in sources]
        last = [cell("code", finish)] if finish else []
        head = (cell("markdown", f"# {name}\n\nA page."), cell("code", PARAMETERS + parameters, "parameters"))
        return self.add(name, *head, *middle, *last)


def small_book(root: Path) -> SmallBook:
    """An empty book at `root`."""
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    (root / "requirements.lock").write_text("numpy==2.4.6\n")
    return SmallBook(root)


@pytest.fixture
def book(tmp_path, monkeypatch) -> SmallBook:
    """An empty book that `ilbook` takes for its own."""
    made = small_book(tmp_path / "book")
    monkeypatch.setenv("ILBOOK_ROOT", str(made.root))
    return made


@pytest.fixture(scope="module")
def module_book(tmp_path_factory) -> SmallBook:
    """The same for a whole module, because executing notebooks takes seconds."""
    made = small_book(tmp_path_factory.mktemp("module") / "book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILBOOK_ROOT", str(made.root))
        yield made


@pytest.fixture
def make_cell():
    """The function that makes one cell."""
    return cell


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """A folder of traces in place of tests/golden; the fixture is the function that replaces what is recorded in it."""
    from ilbook.page import versions

    folder = tmp_path / "golden"
    monkeypatch.setattr(versions, "GOLDEN", folder)

    def record(traces: dict[str, dict], covered: dict[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.json"):
            old.unlink()
        (folder / versions.COVERED).write_text(json.dumps(covered or {}))
        for part, trace in traces.items():
            versions.golden_file(part).write_text(json.dumps({"part": part, "tolerance": 1e-6, "trace": trace}))
        versions.recorded.cache_clear()

    yield record
    versions.recorded.cache_clear()
