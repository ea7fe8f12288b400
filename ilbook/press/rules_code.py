"""Rules about the code of a notebook, checked on its syntax tree without running it."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding, numbered

# What the base installation has; anything else is an extra, and its absence must be explained.
ALWAYS_THERE = {
    "ilbook", "numpy", "torch", "matplotlib", "pandas", "seaborn", "gymnasium", "mujoco", "IPython", "ipywidgets",
    "mediapy", "safetensors", "scipy",
}  # fmt: skip
OUTSIDE_MODULES = {
    "requests",
    "urllib",
    "http",
    "socket",
    "ftplib",
    "subprocess",
    "huggingface_hub",
    "wandb",
    "pip",
    "webbrowser",
}
PICKLE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve"}
OUTSIDE_CALLS = {"os.system", "os.popen", "torch.hub.load", "get_ipython"}
EXITS = {"exit", "quit", "sys.exit", "os._exit", "os.abort", "os.kill"}
ABSOLUTE = re.compile(r"(/[\w.-]+)+/?|~(/.*)?|[A-Za-z]:[\\/].*|\\\\.*")
GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64"}


def _trees(book: Notebook) -> Iterator[tuple[int, ast.Module]]:
    """The syntax tree of each code cell that has one."""
    for number, cell in numbered(book):
        if cell.kind == "code":
            try:
                yield number, ast.parse(cell.source)
            except SyntaxError:
                continue  # rule "python" says so


def _walk(book: Notebook, kind: type) -> Iterator[tuple[int, ast.AST]]:
    for number, tree in _trees(book):
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield number, node


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]


def definitions(book: Notebook) -> Iterator[tuple[int, ast.FunctionDef | ast.ClassDef]]:
    """Functions and classes that the notebook defines at the top of a cell."""
    for number, tree in _trees(book):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield number, node


def python(book: Notebook) -> Iterator[Finding]:
    """Plain Python: no shell lines, no magics, no star imports."""
    for number, cell in numbered(book):
        if cell.kind != "code":
            continue
        magic = re.search(r"^\s*([!%?].*|\S+\?)$", cell.source, re.MULTILINE)
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            what = f"`{magic.group(0).strip()}` is not Python" if magic else f"line {error.lineno}: {error.msg}"
            yield number, f"{what}; write plain Python"
    for number, node in _walk(book, ast.ImportFrom):
        if any(alias.name == "*" for alias in node.names):
            yield number, f"`{ast.unparse(node)}` hides where names come from; name them"


def profile_only_in_pick(book: Notebook) -> Iterator[Finding]:
    """Only `run.pick(smoke=, lecture=, full=)` depends on the profile."""
    for number, cell in numbered(book):
        if cell.kind != "code" or "parameters" in cell.tags:
            continue
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            continue
        starts = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Run.start")
        ]
        allowed = {id(inner) for start in starts for inner in ast.walk(start)}
        for node in ast.walk(tree):
            named = isinstance(node, ast.Name) and node.id == "profile" and id(node) not in allowed
            if named or (isinstance(node, ast.Attribute) and ast.unparse(node) == "run.profile"):
                yield number, f"`{ast.unparse(node)}` is used outside Run.start; use run.pick(smoke=, lecture=, full=)"


def absolute_paths(book: Notebook) -> Iterator[Finding]:
    """No path that exists on one machine only."""
    for number, node in _walk(book, ast.Constant):
        if isinstance(node.value, str) and len(node.value) > 1 and ABSOLUTE.fullmatch(node.value):
            yield number, f"{node.value!r} is an absolute path; use run.out or a path inside the repository"


def outside(book: Notebook) -> Iterator[Finding]:
    """No shell, no network, no account, no pickle."""
    for number, node in _walk(book, ast.Import | ast.ImportFrom):
        for module in _modules(node):
            top = module.split(".")[0]
            if top in OUTSIDE_MODULES:
                yield number, f"imports {module}; a notebook needs no shell and no network"
            if top in PICKLE_MODULES:
                yield number, f"imports {module}; no pickle is ever loaded, use safetensors or npz"
    for number, node in _walk(book, ast.Call):
        name = ast.unparse(node.func)
        if name in OUTSIDE_CALLS:
            yield number, f"calls {name}; a notebook needs no shell and no network"
        if name in ("torch.load", "torch.save"):
            yield number, f"calls {name}, which pickles; use safetensors"
    for number, node in _walk(book, ast.Constant):
        if isinstance(node.value, str) and re.search(r"https?://", node.value):
            yield number, f"{node.value[:40]!r} is a web address in code; a notebook loads nothing from the web"


def imports(book: Notebook) -> Iterator[Finding]:
    """A package of an extra is imported inside `try`, with an `except ImportError` that explains its absence."""
    for number, tree in _trees(book):
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.Try)
            and any("ImportError" in ast.unparse(handler.type or tree) for handler in node.handlers)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom) or id(node) in guarded:
                continue
            for module in _modules(node):
                top = module.split(".")[0]
                if top not in ALWAYS_THERE and top not in sys.stdlib_module_names:
                    yield (
                        number,
                        f"imports {top}, which is not always installed; use try ... except ImportError and explain",
                    )


def exits(book: Notebook) -> Iterator[Finding]:
    """Nothing ends the kernel: the runner would call the notebook incomplete."""
    for number, node in _walk(book, ast.Call):
        if ast.unparse(node.func) in EXITS:
            yield number, f"calls {ast.unparse(node.func)}(); a notebook ends with run.finish() only"
    for number, node in _walk(book, ast.Raise):
        if node.exc is not None and "SystemExit" in ast.unparse(node.exc):
            yield number, "raises SystemExit; a notebook ends with run.finish() only"


def hidden_randomness(book: Notebook) -> Iterator[Finding]:
    """Randomness is an explicit generator made from the seed."""
    for number, node in _walk(book, ast.Call):
        name = ast.unparse(node.func)
        match = re.fullmatch(r"(?:np|numpy)\.random\.(\w+)", name)
        if match and match.group(1) not in GENERATORS:
            yield number, f"calls {name}, the global generator; use run.rng(...)"
        elif match and not node.args and not node.keywords:
            yield number, f"calls {name}() without a seed; use run.rng(...)"
        elif name in ("torch.manual_seed", "torch.seed", "random.seed"):
            yield number, f"calls {name}; give a generator to what needs one"
    for number, node in _walk(book, ast.Import | ast.ImportFrom):
        if "random" in _modules(node):
            yield number, "imports random; use run.rng(...)"


def claims(book: Notebook) -> Iterator[Finding]:
    """Every claim is written out, declared before it is judged, and judged."""
    declared: dict[str, int] = {}
    judged: dict[str, int] = {}
    for number, call in _walk(book, ast.Call):
        name = ast.unparse(call.func)
        if name.split(".")[-1] == "Claim":
            if not all(map(_is_literal, [*call.args, *(keyword.value for keyword in call.keywords)])):
                yield number, "a Claim is computed; write its values out, they are read without running the notebook"
            names = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "id")]
            declared |= {node.value: number for node in names if isinstance(node, ast.Constant)}
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


def exercises(book: Notebook) -> Iterator[Finding]:
    """Exercises have checks."""
    begun = False
    for _, cell in numbered(book):
        if cell.kind == "markdown" and re.search(r"^##+ .*exercise", cell.source, re.IGNORECASE | re.MULTILINE):
            begun = True
        if begun and cell.kind == "code" and re.search(r"\bcheck\.\w+\(", cell.source):
            return
    if begun:
        yield None, "the exercises have no check; call one of ilbook.page.check after the cell to be filled in"


def copies_of_policies(book: Notebook) -> Iterator[Finding]:
    """What stands in `ilbook/policies` is shown with viz.source, not copied."""
    for number, node in definitions(book):
        if node.name in _package_names():
            yield number, f"{node.name} also stands in ilbook/policies; import it and show it with viz.source"


@cache
def _package_names() -> frozenset[str]:
    folder = Path(__file__).parents[1] / "policies"
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in folder.glob("*.py")]
    return frozenset(
        node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    )
