"""Read notebooks as plain JSON, without importing nbformat (which alone takes a second)."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from ilbook.errors import UserError, unknown


@dataclass(frozen=True)
class Cell:
    """One cell: its kind ("code", "markdown" or "raw"), its source text, its tags and its untouched JSON."""

    kind: str
    source: str
    tags: tuple[str, ...]
    raw: dict


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
    def code_cells(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.kind == "code")

    @property
    def code(self) -> str:
        """All code cells as one Python text."""
        return "\n\n".join(cell.source for cell in self.code_cells)


def read(path: Path) -> Notebook:
    """Read one notebook file; UserError when it is missing or not a notebook."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple(_cell(cell) for cell in raw["cells"])
        version = (int(raw["nbformat"]), int(raw["nbformat_minor"]))
    except FileNotFoundError:
        raise UserError(f"there is no notebook at {path}; give the path of an .ipynb file") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is not a readable notebook ({error!r}); restore it from git") from None
    return Notebook(path, cells, raw.get("metadata", {}), version)


def _cell(raw: dict) -> Cell:
    source = raw["source"]
    tags = tuple(raw.get("metadata", {}).get("tags", ()))
    return Cell(raw["cell_type"], source if isinstance(source, str) else "".join(source), tags, raw)


def paths(root: Path) -> list[Path]:
    """All notebook files of the book, in reading order."""
    found = sorted((root / "notebooks").glob("*/*.ipynb"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def choose(root: Path, names: list[str]) -> list[Path]:
    """The notebooks called `names` (an id or the path of a file), all of them if `names` is empty."""
    found = paths(root)
    if not found:
        raise UserError(f"there is no notebook under {root / 'notebooks'}; run this inside a clone of the book")
    by_id: dict[str, Path] = {}
    for path in found:
        if path.stem in by_id:
            raise UserError(
                f"two notebooks are called {path.stem!r} ({by_id[path.stem]} and {path}); rename one of them"
            )
        by_id[path.stem] = path
    chosen = []
    for name in names:
        stem = Path(name).stem if name.endswith(".ipynb") else name
        if stem not in by_id:
            raise unknown("notebook", name, list(by_id))
        chosen.append(by_id[stem])
    return list(dict.fromkeys(chosen)) or found


def parameters(notebook: Notebook) -> dict[str, object]:
    """Names and literal values of the cell tagged "parameters"; UserError unless there is exactly one such cell."""
    tagged = [cell for cell in notebook.code_cells if "parameters" in cell.tags]
    if len(tagged) != 1:
        raise UserError(
            f"{notebook.path.name} has {len(tagged)} cells tagged 'parameters'; it needs exactly one, "
            "with at least `profile` and `seed`"
        )
    try:
        values = dict(_assignment(statement) for statement in ast.parse(tagged[0].source).body)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"the parameters cell of {notebook.path.name} may hold literals only: {error}") from None
    for name in ("profile", "seed"):
        if name not in values:
            raise UserError(f"the parameters cell of {notebook.path.name} does not set `{name}`; add it")
    return values


def _assignment(statement: ast.stmt) -> tuple[str, object]:
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    else:
        raise ValueError(f"`{ast.unparse(statement)}` is not `name: type = literal`")
    if not isinstance(target, ast.Name):
        raise ValueError(f"`{ast.unparse(statement)}` does not set one plain name")
    return target.id, ast.literal_eval(value)


def override(notebook: Notebook, settings: list[str]) -> dict[str, object]:
    """Turn `["name=value", ...]` into typed values for the notebook's parameters cell."""
    valid = parameters(notebook)
    typed: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting} has no value; write --set name=value")
        if name in ("profile", "seed"):
            raise UserError(f"--set {setting} is not the way to choose the {name}; write --{name} {text}")
        if name not in valid:
            raise unknown(f"parameter of {notebook.id}", name, [key for key in valid if key not in ("profile", "seed")])
        typed[name] = _typed(name, text, valid[name])
    return typed


def _typed(name: str, text: str, default: object) -> object:
    """`text` as a value of the type of `default`: whole numbers are also taken for a float."""
    if isinstance(default, str):
        return text
    try:
        value = {"true": True, "false": False}.get(text.lower())
        value = ast.literal_eval(text) if value is None else value
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        wanted = type(default).__name__
        raise UserError(f"--set {name}={text} is not of type {wanted}; give a value such as {name}={default!r}")
    return value
