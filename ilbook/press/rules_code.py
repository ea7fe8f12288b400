"""Rules about the code of a notebook, checked on its syntax tree without running it; `notebooks.toml` holds ruff's."""

import ast
from collections.abc import Iterator

from ilbook.errors import UserError
from ilbook.press import results
from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding


def python(book: Notebook) -> Iterator[Finding]:
    """Plain Python: no shell lines, no magics, which ruff lets pass in a notebook."""
    for number, cell in book.numbered("code"):
        try:
            compile(cell.source, "cell", "exec")
        except SyntaxError as error:
            yield number, f"line {error.lineno}: {error.msg}; write plain Python, without shell lines and magics"


def profile(book: Notebook) -> Iterator[Finding]:
    """Only `run.pick(smoke=, lecture=, full=)` depends on the profile."""
    starts = [call for _, call in book.nodes(ast.Call) if ast.unparse(call.func).endswith("Run.start")]
    allowed = {node for call in starts for node in ast.walk(call)}
    for number, node in book.nodes(ast.Name | ast.Attribute):
        used = ast.unparse(node)
        if (
            used in ("profile", "run.profile")
            and node not in allowed
            and "parameters" not in book.cells[number - 1].tags
        ):
            yield number, f"`{used}` is used outside Run.start; use run.pick(smoke=, lecture=, full=)"


def claims(book: Notebook) -> Iterator[Finding]:
    """Every claim is written out, declared before it is judged, and judged."""
    try:
        declared = {claim.id: number for claim, number in results.declared(book).items()}
    except UserError as error:
        yield None, str(error)
        return
    calls = [(number, call) for number, call in book.nodes(ast.Call) if ast.unparse(call.func).endswith(".judge")]
    judged = {getattr(call.args[0], "value", None): number for number, call in calls if call.args}
    for claim, number in judged.items():
        if declared.get(claim, number) >= number:
            yield number, f"judges {claim!r}, which no earlier cell declares; declare it before the run"
    for claim in declared.keys() - judged.keys():
        yield declared[claim], f"declares {claim!r} and never judges it; call run.judge({claim!r}, ...)"
