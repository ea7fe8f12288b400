"""The rules for notebooks that a program can check. Each rule yields problems; `ilbook hygiene` shows them all."""

import ast
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ilbook.errors import UserError
from ilbook.paths import write_file
from ilbook.press import notebook as notebooks
from ilbook.press import rules_code, rules_form, rules_text
from ilbook.press.notebook import Notebook

Finding = tuple[int | None, str]  # cell number from 1, or None for the whole notebook; what is wrong and what to do
Rule = Callable[[Notebook], Iterator[Finding]]

RULES: dict[str, Rule] = {
    "name": rules_form.name,
    "format": rules_form.file_format,
    "clean": rules_form.clean,
    "tags": rules_form.tags,
    "title": rules_form.title,
    "parameters": rules_form.parameters,
    "set-up": rules_form.set_up,
    "sentinel": rules_form.sentinel,
    "size": rules_form.size,
    "sections": rules_text.sections,
    "tables": rules_text.tables,
    "words": rules_text.words,
    "typed-number": rules_text.typed_numbers,
    "images": rules_text.images,
    "python": rules_code.python,
    "profile": rules_code.profile_only_in_pick,
    "path": rules_code.absolute_paths,
    "outside": rules_code.outside,
    "imports": rules_code.imports,
    "exit": rules_code.exits,
    "random": rules_code.hidden_randomness,
    "claims": rules_code.claims,
    "exercises": rules_code.exercises,
    "copy": rules_code.copies_of_policies,
}
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

    def record(self) -> dict:
        """As a dict for JSON."""
        return asdict(self)


def check(paths: list[Path]) -> list[Problem]:
    """Every broken rule in the notebooks at `paths`; UserError when there is nothing to check."""
    if not paths:
        raise UserError("no notebook to check; run this inside a clone of the book or name .ipynb files")
    books = [notebooks.read(path) for path in paths]
    found = []
    for book in books:
        for rule, function in RULES.items():
            found += [Problem(book.path.name, cell, rule, message) for cell, message in function(book)]
    return found + list(_same_names(books)) + list(_shared_code(books))


def _same_names(books: list[Notebook]) -> Iterator[Problem]:
    for name, number in Counter(book.id for book in books).items():
        if number > 1:
            yield Problem(f"{name}.ipynb", None, "name", f"{number} notebooks have this name; ids must be unique")


def _shared_code(books: list[Notebook]) -> Iterator[Problem]:
    """Code that two notebooks need belongs in the package; each notebook then shows its real source."""
    first: dict[str, str] = {}
    for book in books:
        for cell, definition in rules_code.definitions(book):
            lines = ast.unparse(definition).count("\n") + 1
            text = ast.dump(definition)
            if lines < SHARED_LINES:
                continue
            other = first.setdefault(text, book.path.name)
            if other != book.path.name:
                message = (
                    f"{definition.name} also stands in {other}; move it into the package and show it with viz.source"
                )
                yield Problem(book.path.name, cell, "copy", message)


def strip(path: Path) -> bool:
    """Remove outputs, execution counts and editor metadata from a notebook file; True if the file changed."""
    before = path.read_text(encoding="utf-8")
    notebooks.read(path)  # refuses what is not a notebook
    raw = json.loads(before)
    raw["metadata"] = {key: value for key, value in raw["metadata"].items() if key in rules_form.NOTEBOOK_METADATA}
    raw["metadata"].get("language_info", {}).pop("version", None)  # changes with every Python that saves the file
    raw["cells"] = [cell for cell in raw["cells"] if "injected-parameters" not in cell["metadata"].get("tags", ())]
    for cell in raw["cells"]:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key in rules_form.CELL_METADATA}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    after = json.dumps(raw, indent=1, ensure_ascii=False) + "\n"
    if after != before:
        write_file(path, after)
    return after != before
