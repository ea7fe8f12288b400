"""Rules about the form of a notebook file: its name, its cells and their sizes, and what must stand where."""

import ast
import re
import statistics
from collections.abc import Iterator

from ilbook.errors import UserError, unknown
from ilbook.press import notebook as notebooks
from ilbook.press.notebook import TEACHING, Notebook

NOTEBOOK_METADATA = {"kernelspec", "language_info", "ilbook"}
TAGS = {
    "parameters", "failure", *TEACHING, "full-width", "scroll-output",
    "hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell",
}  # fmt: skip
LINES_PER_CELL = 25
MEDIAN_LINES = 10
CODE_LINES = 350
CODE_CELLS = (15, 35)

Finding = tuple[int | None, str]  # cell number from 1, or None for the whole notebook; what is wrong and what to do


def kind(book: Notebook) -> str | None:
    """A "variant" shows only what differs from the lead method of its part; a "draft" is not finished."""
    return book.metadata.get("ilbook", {}).get("kind")


def bounds(book: Notebook, low: int, high: int) -> tuple[int, int]:
    """How much of something a page may have: a variant about half, a draft also less."""
    share = 0.5 if kind(book) == "variant" else 1.0
    return 0 if kind(book) == "draft" else round(share * low), round(share * high)


def draft(book: Notebook) -> Iterator[Finding]:
    """A page is in the book when its author has finished it."""
    if kind(book) == "draft":
        yield None, "is a draft; remove kind from its metadata when it is finished"


def name(book: Notebook) -> Iterator[Finding]:
    """Files are called NN_slug.ipynb in a folder N_part."""
    if not re.fullmatch(r"\d\d(_[a-z0-9]+)+", book.id):
        yield None, "the file name is not NN_slug.ipynb, two digits and lower-case words; rename it"
    if not re.fullmatch(r"\d(_[a-z0-9]+)+", book.part):
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


def stripped(cell: dict) -> dict:
    """A cell as JSON without outputs, execution count and what editors and runs note in it."""
    kept = {key: value for key, value in cell.get("metadata", {}).items() if key == "tags"}
    empty = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
    return cell | {"metadata": kept} | empty


def clean(book: Notebook) -> Iterator[Finding]:
    """No outputs and no traces of an editor or a run; `ilbook hygiene --strip` removes them."""
    extra = sorted(set(book.metadata) - NOTEBOOK_METADATA)
    if extra:
        yield None, f"notebook metadata {', '.join(extra)}; remove with ilbook hygiene --strip"
    for number, cell in enumerate(book.cells, start=1):
        after = stripped(cell.raw)
        extra = [key.replace("_", " ") for key in after if cell.raw.get(key) != after[key]]
        if extra:
            yield number, f"has {' and '.join(extra)} of an editor or a run; remove with ilbook hygiene --strip"
        if cell.raw.get("attachments"):
            yield number, "has an attached file; draw the picture in code, or put it beside the pages"
        if cell.kind == "code" and not cell.source.strip():
            yield number, "is empty; delete it"


def tags(book: Notebook) -> Iterator[Finding]:
    """Only tags that something reads."""
    for number, cell in enumerate(book.cells, start=1):
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
    for number, cell in book.numbered("markdown"):
        without_code = re.sub(r"^```.*?^```", "", cell.source, flags=re.DOTALL | re.MULTILINE)
        if number > 1 and re.search(r"^# ", without_code, re.MULTILINE):
            yield number, "a second title ('# ...'); use '## ...' for sections"


def parameters(book: Notebook) -> Iterator[Finding]:
    """The first code cell, tagged "parameters": typed and commented literals, `profile` and `seed` among them."""
    try:
        values = notebooks.parameters(book)
    except UserError as error:
        yield None, str(error)
        return
    number, cell = book.numbered("code")[0]
    if "parameters" not in cell.tags:
        yield number, "the first code cell is not the parameters cell; move that one up"
        return
    for line in filter(str.strip, cell.source.splitlines()):
        if "#" not in line:
            yield number, f"`{line}` has no comment; say what it means"
    for key, value in (("profile", "lecture"), ("seed", 0)):
        if values[key] != value:
            yield number, f"{key} is not {value!r} in the file; set it back"


def set_up(book: Notebook) -> Iterator[Finding]:
    """The second code cell imports ilbook first of all, for what must stand before torch, and starts the run."""
    wanted = f'Run.start("{book.id}", profile, seed)'
    if len(book.code_cells) < 2:
        yield None, f"there is no set-up cell with import ilbook and run = {wanted}; add it"
        return
    number, cell = book.numbered("code")[1]
    if [ast.unparse(line) for line in cell.tree.body[:1]] != ["import ilbook"]:
        yield number, "the set-up cell does not begin with import ilbook; let it stand before all other imports"
    if not re.search(rf"Run\.start\(\s*[\"']{re.escape(book.id)}[\"'],\s*profile,\s*seed\s*\)", cell.source):
        yield number, f"the second code cell does not call {wanted}; call it there"


def sentinel(book: Notebook) -> Iterator[Finding]:
    """The very last cell is `run.finish()`: only that proves that the notebook ran to its end."""
    last = book.cells[-1] if book.cells else None
    if last is None or last.kind != "code" or last.source.strip() != "run.finish()":
        yield len(book.cells), "the last cell is not exactly run.finish(); add it"
    for number, cell in book.numbered("code"):
        if number < len(book.cells) and "run.finish(" in cell.source:
            yield number, "run.finish() is called before the last cell; remove it"


def size(book: Notebook) -> Iterator[Finding]:
    """15 to 35 code cells of at most 25 lines, median at most 10, together at most 350; a variant about half.

    Cells with guesses, questions, exercises and players count in none of these.
    """
    counted = [(number, cell) for number, cell in book.numbered("code") if not cell.tagged(*TEACHING)]
    lengths = {number: len(cell.source.strip().splitlines()) for number, cell in counted}
    for number, lines in lengths.items():
        if lines > LINES_PER_CELL:
            yield number, f"has {lines} lines of code, more than {LINES_PER_CELL}; split it"
    low, high = bounds(book, *CODE_CELLS)
    if not low <= len(lengths) <= high:
        yield None, f"has {len(lengths)} code cells; {low} to {high} are right for one page"
    median, total = statistics.median(lengths.values() or [0]), sum(lengths.values())
    _, most = bounds(book, 0, CODE_LINES)
    if median > MEDIAN_LINES:
        yield None, f"the median code cell has {median:g} lines, more than {MEDIAN_LINES}; split the long ones"
    if total > most:
        yield None, f"has {total} lines of code, more than {most}; move what is shared into the package"
