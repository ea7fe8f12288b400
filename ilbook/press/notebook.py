"""Read notebooks as plain JSON, without importing nbformat (which alone takes a second)."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ilbook.errors import UserError, unknown
from ilbook.page.versions import notebook_parameters

TEACHING = ("exercise", "predict", "concept", "player")  # cells with these tags are for the reader alone
FENCE = re.compile(r"^(```|~~~)(?!\{math\}).*?^\1", re.DOTALL | re.MULTILINE)
FORMULA_OR_CODE = re.compile(r"^```\{math\}.*?^```|\$\$.*?\$\$|\$[^$\n]+\$|`[^`]*`", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """One cell: its kind ("code", "markdown" or "raw"), its source text and its untouched JSON."""

    kind: str
    source: str
    raw: dict

    @property
    def tags(self) -> list[str]:
        return self.raw.get("metadata", {}).get("tags", [])

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; an empty one where the source is not valid Python."""
        try:
            compile(self.source, "cell", "exec")  # notices more than the parser: a `return` outside a function
            return ast.parse(self.source)
        except SyntaxError:
            return ast.Module([], [])

    @property
    def prose(self) -> str:
        """The source without blocks of code, which stand between fences; formulas stay."""
        return FENCE.sub("", self.source)

    @property
    def words(self) -> str:
        """The prose without formulas and names in code."""
        return FORMULA_OR_CODE.sub(" ", self.prose)

    def tagged(self, *tags: str) -> bool:
        """Whether it has one of these tags."""
        return not set(tags).isdisjoint(self.tags)


@dataclass(frozen=True)
class Notebook:
    """One notebook file. Its id is the file's stem, its part the folder it lies in."""

    path: Path
    cells: tuple[Cell, ...]
    metadata: dict
    nbformat: tuple[int, int]

    @property
    def id(self) -> str:
        return self.path.stem

    @property
    def part(self) -> str:
        return self.path.parent.name

    @property
    def title(self) -> str:
        """The first heading of the page."""
        headings = [re.match(r"# +(.+)", cell.source) for _, cell in self.numbered("markdown")]
        return next((heading[1].strip() for heading in headings if heading), self.id)

    @property
    def kind(self) -> str | None:
        """A "variant" shows only what differs from the lead method of its part; a "draft" is not finished."""
        return self.metadata.get("ilbook", {}).get("kind")

    def numbered(self, kind: str) -> list[tuple[int, Cell]]:
        """The cells of one kind, each with its number among all cells, from 1."""
        return [(number, cell) for number, cell in enumerate(self.cells, start=1) if cell.kind == kind]

    @property
    def code_cells(self) -> tuple[Cell, ...]:
        return tuple(cell for _, cell in self.numbered("code"))

    def nodes(self, kind: type) -> Iterator[tuple[int, ast.AST]]:
        """All syntax nodes of one kind, each with the number of its cell."""
        for number, cell in self.numbered("code"):
            yield from ((number, node) for node in ast.walk(cell.tree) if isinstance(node, kind))

    def checks(self) -> list[tuple[int, str, str]]:
        """The calls `check.what("about", ...)`: number of the cell, what, about ("" where that is not written out)."""
        calls = [(number, call, ast.unparse(call.func).partition(".")) for number, call in self.nodes(ast.Call)]
        firsts = [(number, what, [*call.args, None][0]) for number, call, (of, _, what) in calls if of == "check"]
        return [(number, what, str(getattr(first, "value", ""))) for number, what, first in firsts]


def read(path: Path) -> Notebook:
    """Read one notebook file; UserError when it is missing or not a notebook."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple(Cell(cell["cell_type"], "".join(cell["source"]), cell) for cell in raw["cells"])
        version = (int(raw["nbformat"]), int(raw["nbformat_minor"]))
    except FileNotFoundError:
        raise UserError(f"there is no notebook at {path}; give the path of an .ipynb file") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is not a readable notebook ({error!r}); restore it from git") from None
    return Notebook(path, cells, raw.get("metadata", {}), version)


def paths(root: Path) -> list[Path]:
    """All notebook files of the book, in reading order."""
    return sorted((root / "notebooks").glob("[!.]*/[!.]*.ipynb"))


def choose(root: Path, names: list[str]) -> list[Path]:
    """The notebooks called `names` (an id or the path of a file), all of them if `names` is empty."""
    found = paths(root)
    by_id = {path.stem: path for path in found}
    if not found:
        raise UserError(f"there is no notebook under {root / 'notebooks'}; run this inside a clone of the book")
    if len(by_id) < len(found):
        raise UserError(f"only {len(by_id)} of {len(found)} notebooks have a name of their own; rename the others")
    by_path = {path.resolve(): path for path in found}
    chosen = {name: by_id.get(name) or by_path.get(Path(name).resolve()) for name in names}
    for name in (name for name, path in chosen.items() if path is None):
        if not Path(name).exists():
            raise unknown("notebook", name, by_id)
        raise UserError(f"{name} is no page of this book; give an id, or the path of one under {root / 'notebooks'}")
    return list(dict.fromkeys(chosen.values())) or found


def parameters(notebook: Notebook) -> dict[str, object]:
    """Names and literal values of the cell tagged "parameters"; UserError where `profile` or `seed` is missing."""
    values = notebook_parameters(notebook.path)
    if missing := {"profile", "seed"} - values.keys():
        file = notebook.path.name
        raise UserError(f"{file} has no cell with the tag 'parameters' that sets {sorted(missing)}; add it")
    return values


def override(notebook: Notebook, settings: list[str]) -> dict[str, object]:
    """Turn `["name=value", ...]` into values of the types in the notebook's parameters cell."""
    valid = {name: value for name, value in parameters(notebook).items() if name != "profile"}
    typed: dict[str, object] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name in typed:
            raise UserError(f"{name} is given twice, the second time as {text}; leave one out")
        if name not in valid:
            raise unknown(f"parameter of {notebook.id}", name, valid)
        default = valid[name]
        try:
            value = text if isinstance(default, str) else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        typed[name] = float(value) if type(default) is float and type(value) is int else value
        if not _alike(typed[name], default):
            wanted = type(default).__name__
            raise UserError(f"--set {setting} is not of type {wanted}; give a value such as {name}={default!r}")
    return typed


def _alike(value: object, default: object) -> bool:
    """Whether a value is of the type of another, and what it holds, if it holds anything, of the types in that one."""
    inside = {type(one) for one in default} if isinstance(default, list | tuple) else ()
    return type(value) is type(default) and (not inside or {type(one) for one in value} <= inside)
