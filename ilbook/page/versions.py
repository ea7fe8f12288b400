"""What a result depends on: its notebook's code and parameters, its data, and the behaviour of the parts that ran.

The version of a part is the hash of its trace in tests/golden, that of a data set the hash of its files. Notebook code
is hashed as a syntax tree, so comments, docstrings and layout never make a result stale.
"""

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import ilbook
from ilbook.errors import UserError
from ilbook.paths import root

GOLDEN = Path(ilbook.__file__).parents[1] / "tests" / "golden"  # beside the package whose behaviour it records
COVERED = "covered_by_others.json"  # modules without a trace of their own, and why: {module: reason}
# Cells that teach, ask or draw: hygiene sees to it that no other cell reads a name that they assign.
NO_RESULT = ("exercise", "predict", "concept", "player", "hide-input")
NAMED_PARAMETERS = ("profile", "seed")  # a published result names them itself
MATTERS = ("ilbook", "notebooks", "data/manifest.json", "data/demos", "requirements.lock", "tests/golden")
SHIPPED = {"data": "data/manifest.json"}  # kinds of parts that are files: the hash that their list gives is the version
DIGITS = 8  # of a hash that serves as a version


# -- the code of notebooks --------------------------------------------------------------------------------------------
def notebook_key(path: Path, parameters: dict[str, object] | None = None) -> dict:
    """{"notebook": hash, "parameters": {name: text}} of the notebook at `path`; cells that teach are no part of it.

    `parameters` are the values of a run, where they differ from the notebook's own.
    """
    own = notebook_parameters(path)
    code = _normal(notebook_code(path, leave=("parameters", *NO_RESULT)))
    values = own | (parameters or {})
    return {
        "notebook": digest([sorted(own), code]),
        "parameters": {name: repr(value) for name, value in values.items() if name not in NAMED_PARAMETERS},
    }


def notebook_code(path: Path, leave: Iterable[str] = ()) -> list[ast.stmt]:
    """The statements of all code cells, without magics and docstrings; cells with a tag in `leave` are left out."""
    return [statement for tags, tree in _cells(path) if tags.isdisjoint(leave) for statement in tree.body]


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
    """`notebook_key` with the parameters as this kernel has them; empty for a notebook that is not in the book.

    Traces are read here too: what is recorded later belongs to code that this kernel has not loaded.
    """
    import __main__

    _recorded(GOLDEN)
    for path in root().glob(f"notebooks/*/{notebook}.ipynb"):
        live = {name: getattr(__main__, name, value) for name, value in notebook_parameters(path).items()}
        return notebook_key(path, live)
    return {}


def _cells(path: Path) -> Iterator[tuple[set[str], ast.Module]]:
    """Tags and code of each code cell; papermill's own parameter cell is not part of the notebook."""
    try:
        cells = list(json.loads(path.read_text(encoding="utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} cannot be read as a notebook; restore it from git or save it again in Jupyter"
        ) from None
    for number, cell in enumerate(cells):
        tags = set(cell.get("metadata", {}).get("tags", []))
        if cell.get("cell_type") != "code" or "injected-parameters" in tags:
            continue
        code = re.sub(r"(?m)^\s*[%!].*$", "", "".join(cell["source"]))
        try:
            yield tags, without_docstrings(ast.parse(code))
        except SyntaxError as error:
            raise UserError(
                f"{path.name}, cell {number}: not valid Python ({error.msg}, line {error.lineno}); correct it"
            ) from None


def code_hash(code: str | bytes) -> str:
    """Hash of Python code that ignores comments, docstrings and layout."""
    return sha(_normal(without_docstrings(ast.parse(code))))


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree, from which the docstrings were taken."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest
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
def of(parts: Iterable[str]) -> dict[str, str]:
    """The version of each part, but for modules whose lines the traces of others run. UserError without a trace."""
    found = known(parts)
    for part in (part for part, version in found.items() if version is None):
        raise UserError(_missing(part))
    return found


def known(parts: Iterable[str]) -> dict[str, str | None]:
    """The same, with None for a part without a trace: a run is not lost for want of one, its result counts as stale."""
    return {part: _version(part) for part in sorted(set(parts) - covered().keys())}


def stale(result: dict, key: dict | None = None) -> str:
    """Why a result is stale, in words, "" if it is not.

    `result` names the parts that ran; of a notebook it is the provenance, and `key` what `notebook_key` says today.
    """
    before = result.get("parts")
    if not isinstance(before, dict):
        return "it does not say which parts ran"
    return difference(result, {**(key or {}), "parts": known(before)})


def difference(old: dict, now: dict) -> str:
    """What changed between what a result depended on and the same of today, in words; "" if nothing did."""
    words = ["the notebook changed"] if old.get("notebook") != now.get("notebook") else []
    before, after = old["parts"], now["parts"]
    settings = (old.get("parameters") or {}).items() ^ now.get("parameters", {}).items()
    lost = {part for part in before if not before[part] or not after.get(part)}
    for kind, names in (
        ("parameters changed", {name for name, _ in settings}),
        ("changed", {part for part in before.keys() - lost if before[part] != after[part]}),
        ("gone, or without a trace", lost),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            words.append(f"{kind}: {', '.join(sorted(names)[:3])}{more}")
    return "; ".join(words)


def traced(module: str) -> bool:
    """Whether a module (named without "ilbook.") has a trace of its own."""
    return module in _recorded(GOLDEN)


def covered() -> dict[str, str]:
    """Modules that have no trace because those of other parts run their lines, with the reason."""
    return json.loads((GOLDEN / COVERED).read_text(encoding="utf-8"))


def golden_file(part: str) -> Path:
    """Where the trace of a part is recorded; "tasks.pusht:lag" lies in tasks.pusht-lag.json."""
    return GOLDEN / f"{part.replace(':', '-')}.json"


def read_golden(part: str) -> dict:
    """What is on record for a part: {"part", "tolerance", "trace"}. UserError if missing, damaged or another part's."""
    file = golden_file(part)
    remedy = f"restore it from git, or type: make golden PART={part}"
    try:
        golden = json.loads(file.read_text(encoding="utf-8"))
        owner, _, _ = golden["part"], golden["tolerance"], golden["trace"].items()
    except FileNotFoundError:
        raise UserError(_missing(part)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"tests/golden/{file.name} is cut short or damaged; {remedy}") from None
    if owner != part:
        raise UserError(f"tests/golden/{file.name} holds the trace of {owner}, not of {part}; {remedy}")
    return golden


def trace_version(trace: dict) -> str:
    """The version that a trace gives its part: the first digits of the hash of its canonical JSON."""
    return sha(canonical(trace))[:DIGITS]


def canonical(value: object) -> str:
    """A JSON value as text, the same whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _missing(part: str) -> str:
    kind, _, name = part.partition(":")
    if kind in SHIPPED:
        return f"{SHIPPED[kind]} lists no {name!r}, so nothing tells when it changes; ship it, or restore the manifest"
    return (
        f"tests/golden/{golden_file(part).name} is missing, so nothing tells when {part} changes; give it a trace in "
        f"tests/golden/traces/ and type: make golden PART={part}"
    )


def _version(part: str) -> str | None:
    kind, _, name = part.partition(":")
    if kind not in SHIPPED:
        return _recorded(GOLDEN).get(part)
    from ilbook.data import manifest

    entry = manifest.entries().get(name, {})
    hashes = [entry.get("sha256"), *entry.get("frames", {}).values()]  # the films of a set are files of their own
    return hashes[0] and (sha(*hashes) if len(hashes) > 1 else hashes[0])[:DIGITS]


@cache  # as it was when this process first asked: code is not loaded again when a trace is recorded anew
def _recorded(folder: Path) -> dict[str, str]:
    parts = [file.stem.replace("-", ":") for file in folder.glob("*.*.json")]
    return {part: trace_version(read_golden(part)["trace"]) for part in parts}


# -- for information --------------------------------------------------------------------------------------------------
def commit() -> str | None:
    """The commit of the repository, with "+" where a file that may matter differs from it; None outside git."""

    def git(*words: str) -> str:
        asked = ["git", "-C", str(root()), *words]
        return subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", *MATTERS) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def digest(value: object) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return sha(canonical(value))


def sha(*parts: str | bytes) -> str:
    """SHA-256 of texts and bytes, as hexadecimal digits."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
    return state.hexdigest()
