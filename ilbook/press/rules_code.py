"""Rules about the code of a notebook, checked on its syntax tree without running it; `notebooks.toml` holds ruff's."""

import ast
import re
import sys
from collections.abc import Iterator

from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding

# What the base installation has; anything else is an extra, and its absence must be explained.
ALWAYS_THERE = {
    "ilbook", "numpy", "torch", "matplotlib", "pandas", "seaborn", "gymnasium", "mujoco", "IPython", "ipywidgets",
    "mediapy", "safetensors", "scipy",
}  # fmt: skip
ABSOLUTE = re.compile(r"(/[\w.-]+)+/?|~(/.*)?|[A-Za-z]:[\\/].*|\\\\.*")
BANNED_NAMES = {"SystemExit": "a notebook ends with run.finish() only", "get_ipython": "a notebook needs no shell"}
MAGIC = re.compile(r"^\s*([!%?].*|\S+\?)$", re.MULTILINE)


def python(book: Notebook) -> Iterator[Finding]:
    """Plain Python: no shell lines, no magics."""
    for number, cell in book.numbered("code"):
        try:
            compile(cell.source, "cell", "exec")
        except SyntaxError as error:
            magic = MAGIC.search(cell.source)
            what = f"`{magic[0].strip()}` is not Python" if magic else f"line {error.lineno}: {error.msg}"
            yield number, f"{what}; write plain Python"


def profile_only_in_pick(book: Notebook) -> Iterator[Finding]:
    """Only `run.pick(smoke=, lecture=, full=)` depends on the profile."""
    for number, cell in book.numbered("code"):
        allowed: set[ast.AST] = set()
        for node in ast.walk(cell.tree) if "parameters" not in cell.tags else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Run.start"):
                allowed.update(ast.walk(node))  # a call is met before its arguments
            name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
            if name in ("profile", "run.profile") and node not in allowed:
                yield number, f"`{name}` is used outside Run.start; use run.pick(smoke=, lecture=, full=)"


def places(book: Notebook) -> Iterator[Finding]:
    """No path that exists on one machine only, and no address in the web."""
    for number, node in book.nodes(ast.Constant):
        if not isinstance(node.value, str) or len(node.value) < 2:
            continue
        if ABSOLUTE.fullmatch(node.value):
            yield number, f"{node.value!r} is an absolute path; use run.out or a path inside the repository"
        elif re.search(r"https?://", node.value):
            yield number, f"{node.value[:40]!r} is a web address in code; a notebook loads nothing from the web"


def names(book: Notebook) -> Iterator[Finding]:
    """Neither the end of the kernel nor the shell by a name that is not imported: ruff knows only imported ones."""
    for number, node in book.nodes(ast.Name):
        if node.id in BANNED_NAMES:
            yield number, f"names {node.id}; {BANNED_NAMES[node.id]}"


def imports(book: Notebook) -> Iterator[Finding]:
    """A package of an extra is imported inside `try`, with an `except ImportError` that explains its absence."""
    guarded: set[ast.AST] = set()
    for _, node in book.nodes(ast.Try):
        if any("ImportError" in ast.unparse(handler.type) for handler in node.handlers if handler.type):
            guarded.update(inner for statement in node.body for inner in ast.walk(statement))
    for number, node in book.nodes(ast.Import | ast.ImportFrom):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for top in (module.split(".")[0] for module in modules if node not in guarded):
            if top not in ALWAYS_THERE | sys.stdlib_module_names:
                yield number, f"imports {top}, which is not always there; use try ... except ImportError and explain"


def claims(book: Notebook) -> Iterator[Finding]:
    """Every claim is written out, declared before it is judged, and judged."""
    declared: dict[str, int] = {}
    judged: dict[str, int] = {}
    for number, call in book.nodes(ast.Call):
        name = ast.unparse(call.func)
        if name.split(".")[-1] == "Claim":
            if not all(map(_is_literal, [*call.args, *(keyword.value for keyword in call.keywords)])):
                yield number, "a Claim is computed; write its values out, they are read without running the notebook"
            ids = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "id")]
            declared |= {node.value: number for node in ids if isinstance(node, ast.Constant)}
        elif name.endswith(".judge") and call.args and isinstance(call.args[0], ast.Constant):
            judged[call.args[0].value] = number
    for claim, number in judged.items():
        if declared.get(claim, number) >= number:
            yield number, f"judges {claim!r}, which no earlier cell declares; declare it before the run"
    for claim, number in declared.items():
        if claim not in judged:
            yield number, f"declares {claim!r} and never judges it; call run.judge({claim!r}, ...)"


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True
