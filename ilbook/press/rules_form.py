"""Rules about the form of a notebook file: its name, its cells and their sizes, and what must stand where."""

import ast
import re
import statistics
from collections.abc import Iterator

from ilbook.errors import unknown
from ilbook.press.notebook import Cell, Notebook

NOTEBOOK_METADATA = {"kernelspec", "language_info", "ilbook"}
CELL_METADATA = {"tags"}
TAGS = {
    "parameters", "exercise", "full-width", "scroll-output",
    "hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell",
}  # fmt: skip
LINES_PER_CELL = 25
MEDIAN_LINES = 10
CODE_LINES = 350
CODE_CELLS = (15, 35)

Finding = tuple[int | None, str]


def numbered(book: Notebook) -> Iterator[tuple[int, Cell]]:
    """Cells with their number from 1."""
    return enumerate(book.cells, start=1)


def is_variant(book: Notebook) -> bool:
    """A variant page shows only what differs from the lead method of its part, and is about half as long."""
    return book.metadata.get("ilbook", {}).get("kind") == "variant"


def name(book: Notebook) -> Iterator[Finding]:
    """Files are called NN_slug.ipynb in a folder N_part."""
    if not re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*", book.id):
        yield None, "the file name is not NN_slug.ipynb, two digits and lower-case words; rename it"
    if not re.fullmatch(r"\d_[a-z0-9]+(_[a-z0-9]+)*", book.part):
        yield None, f"its folder {book.part} is not N_part, a digit and lower-case words; rename it"


def file_format(book: Notebook) -> Iterator[Finding]:
    """nbformat 4.5 with unique cell ids, and the plain Python kernel."""
    if book.nbformat < (4, 5):
        yield None, "the notebook format is older than 4.5; save it once in a present JupyterLab"
    ids = [cell.raw.get("id") for cell in book.cells]
    if None in ids or len(set(ids)) < len(ids):
        yield None, "cells have no ids, or the same one twice; save it once in a present JupyterLab"
    kernel = book.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield None, f"its kernel is {kernel!r}; choose the kernel python3"


def clean(book: Notebook) -> Iterator[Finding]:
    """No outputs and no traces of an editor or a run; `ilbook hygiene --strip` removes them."""
    extra = sorted(set(book.metadata) - NOTEBOOK_METADATA)
    if extra:
        yield None, f"notebook metadata {', '.join(extra)}; remove with ilbook hygiene --strip"
    for number, cell in numbered(book):
        if cell.raw.get("outputs"):
            yield number, "has outputs; remove them with ilbook hygiene --strip"
        if cell.raw.get("execution_count") is not None:
            yield number, "has an execution count; remove it with ilbook hygiene --strip"
        extra = sorted(set(cell.raw.get("metadata", {})) - CELL_METADATA)
        if extra:
            yield number, f"has metadata {', '.join(extra)}; remove with ilbook hygiene --strip"
        if cell.raw.get("attachments"):
            yield number, "has an attached file; draw the picture in code, or put it beside the pages"
        if cell.kind == "code" and not cell.source.strip():
            yield number, "is empty; delete it"


def tags(book: Notebook) -> Iterator[Finding]:
    """Only tags that something reads."""
    for number, cell in numbered(book):
        for tag in cell.tags:
            if tag == "raises-exception":
                yield number, "tag raises-exception still fails the run; catch the error and show its message"
            elif tag not in TAGS:
                yield number, str(unknown("tag", tag, sorted(TAGS)))


def title(book: Notebook) -> Iterator[Finding]:
    """The first cell is the title and the result in a sentence; no other cell has a title."""
    first = book.cells[0] if book.cells else None
    if first is None or first.kind != "markdown" or not re.match(r"# \S", first.source):
        yield 1, "the first cell is not a Markdown title ('# ...') with the result in one sentence; add it"
    elif not re.sub(r"^# .*", "", first.source).strip():
        yield 1, "the title stands alone; say the result in one sentence below it"
    for number, cell in list(numbered(book))[1:]:
        if cell.kind == "markdown" and re.search(r"^# ", _without_fences(cell.source), re.MULTILINE):
            yield number, "a second title ('# ...'); use '## ...' for sections"


def _without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def parameters(book: Notebook) -> Iterator[Finding]:
    """The first code cell, tagged "parameters": typed and commented literals, `profile` and `seed` among them."""
    tagged = [(number, cell) for number, cell in numbered(book) if "parameters" in cell.tags]
    if len(tagged) != 1:
        yield None, f"{len(tagged)} cells are tagged 'parameters'; tag exactly one"
        return
    number, cell = tagged[0]
    if not book.code_cells or cell is not book.code_cells[0]:
        yield number, "the parameters cell is not the first code cell; move it up"
    try:
        statements = ast.parse(cell.source).body
    except SyntaxError:
        return  # rule "python" says so
    values: dict[str, object] = {}
    lines = cell.source.splitlines()
    for statement in statements:
        text = ast.unparse(statement)
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            yield number, f"`{text}` is not `name: type = literal  # comment`; write it so"
            continue
        try:
            values[statement.target.id] = ast.literal_eval(statement.value)
        except ValueError:
            yield number, f"`{text}` is not a literal; compute it in the set-up cell"
        if "#" not in lines[statement.end_lineno - 1][statement.end_col_offset :]:
            yield number, f"`{text}` has no comment; say what it means"
    if values.get("profile") != "lecture":
        yield number, "profile is not 'lecture' in the file; set it back"
    if values.get("seed") != 0:
        yield number, "seed is not 0 in the file; set it back"


def set_up(book: Notebook) -> Iterator[Finding]:
    """The second code cell starts the run under the notebook's own id."""
    if len(book.code_cells) < 2:
        yield None, f'there is no set-up cell with run = Run.start("{book.id}", profile, seed); add it'
        return
    wanted = f'Run.start("{book.id}", profile, seed)'
    if not re.search(
        rf"Run\.start\(\s*[\"']{re.escape(book.id)}[\"'],\s*profile,\s*seed\s*\)", book.code_cells[1].source
    ):
        yield None, f"the second code cell does not call {wanted}; call it there"


def sentinel(book: Notebook) -> Iterator[Finding]:
    """The very last cell is `run.finish()`: only that proves that the notebook ran to its end."""
    last = book.cells[-1] if book.cells else None
    if last is None or last.kind != "code" or last.source.strip() != "run.finish()":
        yield len(book.cells), "the last cell is not exactly run.finish(); add it"
    for number, cell in list(numbered(book))[:-1]:
        if cell.kind == "code" and "run.finish(" in cell.source:
            yield number, "run.finish() is called before the last cell; remove it"


def size(book: Notebook) -> Iterator[Finding]:
    """15 to 35 code cells of at most 25 lines, median at most 10, together at most 350; a variant about half."""
    share = 0.5 if is_variant(book) else 1.0
    lengths = [len(cell.source.strip().splitlines()) for cell in book.code_cells]
    for number, cell in numbered(book):
        lines = len(cell.source.strip().splitlines())
        if cell.kind == "code" and lines > LINES_PER_CELL:
            yield number, f"has {lines} lines of code, more than {LINES_PER_CELL}; split it"
    low, high = (round(share * bound) for bound in CODE_CELLS)
    if not low <= len(lengths) <= high:
        yield None, f"has {len(lengths)} code cells; {low} to {high} are right for one page"
    median = statistics.median(lengths) if lengths else 0
    if median > MEDIAN_LINES:
        yield None, f"the median code cell has {median:g} lines, more than {MEDIAN_LINES}; split the long ones"
    if sum(lengths) > share * CODE_LINES:
        yield (
            None,
            f"has {sum(lengths)} lines of code, more than {share * CODE_LINES:g}; move what is shared into the package",
        )
