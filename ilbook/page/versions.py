"""What a result depends on: its notebook's code and parameters, its data, and the behaviour of the parts that ran.

The version of a part is the hash of its trace in tests/golden, of data that of the files, of code its syntax tree's.
"""

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path

import __main__
import ilbook
from ilbook.errors import UserError
from ilbook.paths import root

GOLDEN = Path(ilbook.__file__).parents[1] / "tests" / "golden"  # beside the package whose behaviour it records
COVERED = "covered_by_others.json"  # modules without a trace of their own, and why: {module: reason}
# Cells that teach, ask or draw: hygiene sees to it that no other cell reads a name that they assign.
NO_RESULT = ("exercise", "predict", "concept", "player", "hide-input")
MATTERS = ("ilbook", "notebooks", "data/manifest.json", "data/demos", "requirements.lock", "tests/golden")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
DIGITS = 8  # of a hash that serves as a version


# -- the code of notebooks --------------------------------------------------------------------------------------------
def notebook_key(path: Path, parameters: dict[str, object] | None = None) -> dict:
    """{"notebook": hash, "parameters": {name: text}} of the notebook at `path`, without cells that teach.

    `parameters` are the values of a run, where they differ from the notebook's own; profile and seed do not count.
    """
    own = notebook_parameters(path)
    code = [one for tags, tree in _cells(path) if tags.isdisjoint(("parameters", *NO_RESULT)) for one in tree.body]
    values = own | (parameters or {})
    texts = {name: repr(value) for name, value in values.items() if name not in ("profile", "seed")}
    return {"notebook": digest([sorted(own), _normal(code)]), "parameters": texts}


def notebook_parameters(path: Path) -> dict[str, object]:
    """The names and literal values of the cell tagged `parameters`, in order."""
    values: dict[str, object] = {}
    for statement in (one for tags, tree in _cells(path) if "parameters" in tags for one in tree.body):
        try:
            values[statement.target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise UserError(
                f"the parameters cell of {path.name} may hold literals only: `{ast.unparse(statement)}` is not `name: "
                "type = literal`; move it to the set-up cell"
            ) from None
    return values


def key_of_run(notebook: str) -> dict:
    """`notebook_key` with the parameters as this kernel has them; empty for a notebook that is not in the book."""
    recorded()  # what is recorded later belongs to code that this kernel has not loaded
    for path in root().glob(f"notebooks/*/{notebook}.ipynb"):
        live = {name: getattr(__main__, name, value) for name, value in notebook_parameters(path).items()}
        return notebook_key(path, live)
    return {}


def _cells(path: Path) -> Iterator[tuple[set[str], ast.Module]]:
    """Tags and code of each code cell; papermill's own parameter cell is not part of the notebook."""
    try:
        cells = list(json.loads(path.read_text(encoding="utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} cannot be read as a notebook; restore it from git or save it again") from None
    for number, cell in enumerate(cells):
        tags = set(cell.get("metadata", {}).get("tags", []))
        if cell.get("cell_type") != "code" or "injected-parameters" in tags:
            continue
        code = re.sub(r"(?m)^\s*[%!].*$", "", "".join(cell["source"]))
        try:
            yield tags, without_docstrings(ast.parse(code))
        except SyntaxError as error:
            where = f"{path.name}, cell {number}"
            raise UserError(f"{where}: not valid Python ({error.msg}, line {error.lineno}); correct it") from None


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree, from which the docstrings were taken."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return tree


def _normal(node: object) -> str:
    """A syntax tree as text. Not `ast.dump`, nor fields that are empty: both change with the version of Python."""
    if isinstance(node, ast.AST):
        kept = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, []) or name == "value"]
        return f"{type(node).__name__}({','.join(f'{name}={_normal(value)}' for name, value in kept)})"
    if isinstance(node, list):
        return f"[{','.join(map(_normal, node))}]"
    return repr(node)


# -- the behaviour of parts -------------------------------------------------------------------------------------------
def known(parts: Iterable[str]) -> dict[str, str | None]:
    """The version of each part that is not `covered`; None, with which a run counts as stale, where there is none."""
    from ilbook.data import manifest

    found = dict(recorded())
    for name, entry in manifest.entries().items():
        hashes = [entry["sha256"], *entry.get("frames", {}).values()]  # the films of a set are files of their own
        found[f"data:{name}"] = (sha(*hashes) if len(hashes) > 1 else hashes[0])[:DIGITS]
    return {part: found.get(part) for part in sorted(set(parts) - covered().keys())}


@cache  # as it was when this process first asked: code is not loaded again when a trace is recorded anew
def recorded() -> dict[str, str]:
    """The version of each part with a trace."""
    parts = [file.stem.replace("-", ":") for file in GOLDEN.glob("*.*.json")]
    return {part: read_golden(part)["version"] for part in parts}


def covered() -> dict[str, str]:
    """Modules that have no trace because those of other parts run their lines, with the reason."""
    return json.loads((GOLDEN / COVERED).read_text(encoding="utf-8"))


def golden_file(part: str) -> Path:
    """Where the trace of a part is recorded; "tasks.pusht:lag" lies in tasks.pusht-lag.json."""
    return GOLDEN / f"{part.replace(':', '-')}.json"


def read_golden(part: str) -> dict:
    """What is on record for a part, {"part", "tolerance", "trace"}, and its "version"; UserError if it is damaged."""
    file = golden_file(part)
    try:
        golden = json.loads(file.read_text(encoding="utf-8"))
        if golden["part"] != part:
            raise ValueError(f"it holds the trace of {golden['part']}")
        return golden | {"version": digest(golden["trace"])[:DIGITS]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"missing, damaged or of another part ({error!r})"
        advice = f"restore it from git, or type: make golden PART={part}"
        raise UserError(f"tests/golden/{file.name} is {what}; {advice}") from None


def commit() -> str | None:
    """The commit of the repository, with "+" where a file that may matter differs from it; None outside git."""
    run = partial(subprocess.check_output, cwd=root(), stderr=subprocess.DEVNULL, text=True, timeout=20)
    try:
        changed = run(["git", "--no-optional-locks", "status", "--porcelain", "--", *MATTERS])
        return run(["git", "rev-parse", "--short=12", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def digest(value: object) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return sha(json.dumps(value, sort_keys=True, separators=(",", ":")))


def sha(*parts: str | bytes) -> str:
    """SHA-256 of texts and bytes, as hexadecimal digits."""
    return hashlib.sha256(b"".join(part.encode() if isinstance(part, str) else part for part in parts)).hexdigest()
