"""Hashes of what a result depends on: notebook code, the package modules it reaches, its data.

Hashes are taken over syntax trees, so comments, docstrings and layout never make a result stale.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import ilbook
from ilbook.errors import UserError
from ilbook.paths import root

PACKAGE = Path(ilbook.__file__).parent

# Modules that show, drive or write down results and never change a number. They count when an executed page is
# reused (its pictures come from them) but do not make a claim stale, and neither does what only they import.
PRESENTATION = {
    "viz", "media", "widgets", "widgets_trial", "book", "cli", "gl", "check", "doctor", "methods",
    "claims", "sources", "fingerprint", "errors",
}  # fmt: skip

# Parameters that a published result names itself: it has a file per profile, and its seed is a key in it.
NAMED_PARAMETERS = ("profile", "seed")


def reachable(start: str | Iterable[str], presentation: bool = False) -> set[str]:
    """The ilbook modules that code (a string) or modules (other iterables of dotted names) import, directly or not.

    Imports inside functions count, and so do entry points written as text ("ilbook.tasks.pusht:PushTEnv"). A module
    that imports by a computed name reaches its whole package. The root package holds only the version: left out.
    """
    todo = list(_imports(ast.parse(start), "")) if isinstance(start, str) else list(start)
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name in found or _file(name) is None or (not presentation and _is_presentation(name)):
            continue
        found.add(name)
        todo.append(name.rpartition(".")[0])  # importing a module runs its packages' __init__ first
        todo += _module_imports(name)
    return found


def module_hashes(start: str | Iterable[str], presentation: bool = False) -> dict[str, str]:
    """The hash of every reachable module, by name: of its syntax tree and of the data files that belong to it."""
    return {name: _module_hash(name)[0] for name in sorted(reachable(start, presentation))}


def source_hash(code: str, presentation: bool = False) -> str:
    """One hash over all ilbook modules that `code` reaches; the code itself is not in it (see `code_hash`)."""
    return digest(module_hashes(code, presentation))


def code_hash(code: str) -> str:
    """Hash of Python code that ignores comments, docstrings and layout."""
    return sha(_normal(_without_docstrings(ast.parse(code))))


def edited(modules: Iterable[str]) -> list[str]:
    """Those modules whose file was saved after this process first hashed it, and may have loaded an older text."""
    return sorted(name for name in modules if _module_hash(name)[1] != _file(name).stat().st_mtime_ns)


def digest(value: object) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return sha(json.dumps(value, sort_keys=True))


def notebooks() -> list[Path]:
    """Every notebook of the book, in order of parts and numbers."""
    return sorted(root().glob("notebooks/*/*.ipynb"))


def notebook_code(path: Path, parameters: bool = True) -> str:
    """All code of a notebook as one Python text, without magics; `parameters=False` leaves that cell out."""
    return "\n".join(code for tags, code in _cells(path) if parameters or "parameters" not in tags)


def notebook_parameters(path: Path) -> dict[str, object]:
    """The names and literal values of the cell tagged `parameters`, in order."""
    values: dict[str, object] = {}
    for tags, code in _cells(path):
        for statement in ast.parse(code).body if "parameters" in tags else ():
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            if not isinstance(target, ast.Name) or getattr(statement, "value", None) is None:
                raise UserError(
                    f"{path.name}: the parameters cell holds more than 'name: type = literal'; "
                    "move the rest to the set-up cell"
                )
            try:
                values[target.id] = ast.literal_eval(statement.value)
            except ValueError:
                raise UserError(f"{path.name}: parameter {target.id} is computed; give it a literal value") from None
    return values


def notebook_hashes(path: Path, parameters: dict[str, object] | None = None, presentation: bool = False) -> dict:
    """What a result of this notebook depends on: {"notebook", "parameters", "sources", "data"}, ready for JSON.

    `parameters` are the values of a run, where they differ from the notebook's own. Profile and seed are not in the
    hashes: a result names them itself. A result is stale when these hashes are no longer the same.
    """
    code = notebook_code(path)
    values = notebook_parameters(path) | (parameters or {})
    return {
        "notebook": digest([sorted(notebook_parameters(path)), code_hash(notebook_code(path, parameters=False))]),
        "parameters": {name: repr(value) for name, value in values.items() if name not in NAMED_PARAMETERS},
        "sources": module_hashes(code, presentation),
        "data": data_hashes(code),
    }


def difference(old: dict, new: dict) -> str:
    """What changed between the hashes of a result and those of today, in words; "" if nothing did."""
    words = ["the notebook changed"] if old.get("notebook") != new["notebook"] else []
    for part in ("parameters", "sources", "data"):
        before = old.get(part) or {}
        names = sorted(name for name in {**before, **new[part]} if before.get(name) != new[part].get(name))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            words.append(f"{part} changed: {', '.join(names[:3])}{more}")
    if not words and old != new:  # hashes of another kind, from an older version of this package
        words.append("its hashes are of another form")
    return "; ".join(words)


def notebook_hashes_of_run(notebook: str) -> dict | None:
    """`notebook_hashes` with the parameters as this kernel has them; None for a notebook that is not in the book."""
    import __main__

    for path in notebooks():
        if path.stem == notebook:
            live = {name: getattr(__main__, name, value) for name, value in notebook_parameters(path).items()}
            return notebook_hashes(path, live)
    return None


def data_hashes(code: str) -> dict[str, str]:
    """Hash of each entry of data/manifest.json that `code` loads by name; of all if a name is computed."""
    names: set[str] = set()
    computed = False
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and node.args and re.fullmatch(r"(.*\bdata\.)?load", ast.unparse(node.func)):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                names.add(name.value)
            else:
                computed = True
    entries = _manifest()
    return {name: digest(entry) for name, entry in sorted(entries.items()) if computed or name in names}


def data_hash(code: str) -> str:
    """One hash over the data that `code` loads."""
    return digest(data_hashes(code))


def _manifest() -> dict:
    path = root() / "data" / "manifest.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); restore it from git") from None


def _cells(path: Path) -> Iterator[tuple[list[str], str]]:
    """Tags and Python code of each code cell; papermill's own parameter cell is not part of the notebook."""
    try:
        cells = list(json.loads(path.read_text(encoding="utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} cannot be read as a notebook; restore it from git or save it again in Jupyter"
        ) from None
    for number, cell in enumerate(cells):
        tags = cell.get("metadata", {}).get("tags", [])
        if cell.get("cell_type") != "code" or "injected-parameters" in tags:
            continue
        code = re.sub(r"(?m)^\s*[%!].*$", "", "".join(cell["source"]))
        try:
            ast.parse(code)
        except SyntaxError as error:
            raise UserError(
                f"{path.name}, cell {number}: not valid Python ({error.msg}, line {error.lineno}); correct it"
            ) from None
        yield tags, code


def _file(module: str) -> Path | None:
    """The file of an ilbook module, or None if the name is something else."""
    top, _, rest = module.partition(".")
    if top != "ilbook" or not rest:
        return None
    path = PACKAGE.joinpath(*rest.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _is_presentation(module: str) -> bool:
    return module.split(".")[1] in PRESENTATION


@cache  # a module is hashed as it was when this process first asked, which is about when it was imported
def _module_hash(module: str) -> tuple[str, int]:
    """The hash of a module and the time its file was saved."""
    file = _file(module)
    saved = file.stat().st_mtime_ns
    parts = [sha(_normal(_without_docstrings(ast.parse(file.read_bytes()))))]
    parts += [sha(data.name, data.read_bytes()) for data in _package_data(file)]
    return digest(parts), saved


@cache
def _module_imports(module: str) -> list[str]:
    file = _file(module)
    tree = ast.parse(file.read_bytes())
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names = list(_imports(tree, package))
    if any(isinstance(node, ast.Attribute | ast.Name | ast.alias) and _is_dynamic(node) for node in ast.walk(tree)):
        names += [".".join((package, *_dotted(file.parent, other))) for other in file.parent.rglob("*.py")]
    return names


def _is_dynamic(node: ast.Attribute | ast.Name | ast.alias) -> bool:
    named = {getattr(node, field, None) for field in ("attr", "id", "name")}
    return bool(named & {"import_module", "iter_modules", "__import__"})


def _dotted(folder: Path, file: Path) -> tuple[str, ...]:
    parts = file.relative_to(folder).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that may be ilbook modules; `package` resolves relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)  # a submodule, or else dropped by `_file`
        elif isinstance(node, ast.Constant) and re.fullmatch(r"ilbook(\.\w+)+(:\w+)?", str(node.value)):
            yield str(node.value).partition(":")[0]


def _package_data(file: Path) -> list[Path]:
    """Files beside a module that belong to it: those of its stem; to a package, those that no module claims."""
    others = [path for path in file.parent.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc", ".tmp"}]
    if file.name != "__init__.py":
        return sorted(path for path in others if path.parent == file.parent and path.stem == file.stem)
    nearest = (path for path in others if _package_of(path) == file.parent)
    return sorted(path for path in nearest if path.parent != file.parent or not path.with_suffix(".py").exists())


def _package_of(path: Path) -> Path:
    return next(folder for folder in path.parents if (folder / "__init__.py").exists())


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def _normal(node: object) -> str:
    """A syntax tree as text. Not `ast.dump`, nor fields that are empty: both change with the version of Python."""
    if isinstance(node, ast.AST):
        kept = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, []) or name == "value"]
        return f"{type(node).__name__}({','.join(f'{name}={_normal(value)}' for name, value in kept)})"
    if isinstance(node, list):
        return f"[{','.join(map(_normal, node))}]"
    return repr(node)


def sha(*parts: str | bytes) -> str:
    """SHA-256 of texts and bytes, as hexadecimal digits."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
    return state.hexdigest()
