"""The rules for notebooks that a program can check. Each rule yields problems; `ilbook hygiene` shows them all."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ilbook.errors import UserError
from ilbook.paths import write_file
from ilbook.press import notebook as notebooks
from ilbook.press import rules
from ilbook.press.notebook import Notebook

RUFF_SETTINGS = Path(__file__).with_name("notebooks.toml")
FIRST_IMPORT = "`ilbook` imported but unused"  # it stands first in the set-up cell for what it does to torch
POLICIES = Path(__file__).parents[1] / "policies"
SHARED_LINES = 5  # a shorter function may stand in two notebooks


@dataclass(frozen=True)
class Problem:
    """One broken rule, where, and what to do about it."""

    notebook: str
    cell: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        place = self.notebook if self.cell is None else f"{self.notebook}, cell {self.cell}"
        return f"{place}: {self.message} [{self.rule}]"


def check(paths: list[Path]) -> list[Problem]:
    """Every broken rule in the notebooks at `paths`."""
    books = [notebooks.read(path) for path in paths]
    found = []
    for book, rule in product(books, rules.RULES):
        name = rule.__name__.replace("_", "-")
        found += [Problem(book.path.name, cell, name, message) for cell, message in rule(book)]
    return [*found, *_ruff(paths), *_copies(books)]


def _ruff(paths: list[Path]) -> Iterator[Problem]:
    """What ruff finds with the settings for notebooks."""
    options = ["--config", str(RUFF_SETTINGS), "--ignore-noqa", "--no-cache", "--output-format", "json"]
    command = [sys.executable, "-m", "ruff", "check", *options, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode > 1 or not done.stdout:
        raise UserError(f"ruff could not check the notebooks ({done.stderr.strip()[-200:]}); type: make env")
    for one in json.loads(done.stdout):
        if one["message"] != FIRST_IMPORT:
            message = f"line {one['location']['row']}: {one['message']}"
            yield Problem(Path(one["filename"]).name, one["cell"], one["name"], message)


def _copies(books: list[Notebook]) -> Iterator[Problem]:
    """Code that two notebooks need belongs in the package, and what is there is shown with viz.source, not copied."""
    policies = {path: _definitions(ast.parse(path.read_text())) for path in POLICIES.glob("*.py")}
    package = {node.name: f"ilbook/policies/{path.name}" for path, nodes in policies.items() for node in nodes}
    first: dict[str, str] = {}
    for book in books:
        nodes = [(number, node) for number, cell in book.numbered("code") for node in _definitions(cell.tree)]
        for number, node in nodes:
            other = first.setdefault(ast.dump(node), book.path.name)
            shared = other != book.path.name and ast.unparse(node).count("\n") + 1 >= SHARED_LINES
            if shared or node.name in package:
                message = f"{node.name} also stands in {package.get(node.name, other)}; keep it in the package alone"
                yield Problem(book.path.name, number, "copy", f"{message} and show it with viz.source")


def _definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def strip(path: Path) -> bool:
    """Remove outputs, execution counts and editor metadata from a notebook file; True if the file changed."""
    notebooks.read(path)  # refuses what is not a notebook
    before = path.read_text(encoding="utf-8")
    raw = json.loads(before)
    raw["metadata"] = {key: value for key, value in raw["metadata"].items() if key in rules.NOTEBOOK_METADATA}
    raw["metadata"].get("language_info", {}).pop("version", None)  # changes with every Python that saves the file
    injected = "injected-parameters"  # by papermill
    raw["cells"] = [rules.stripped(c) for c in raw["cells"] if injected not in c["metadata"].get("tags", ())]
    after = json.dumps(raw, indent=1, ensure_ascii=False) + "\n"
    if after != before:
        write_file(path, after)
    return after != before
