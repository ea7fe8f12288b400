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
Finding = tuple[int | None, str]  # cell number from 1, or None for the whole notebook; what is wrong and what to do


def draft(book: Notebook) -> Iterator[Finding]:
    """A page is in the book when its author has finished it."""
    if book.kind == "draft":
        yield None, "is a draft; remove kind from its metadata when it is finished"


def name(book: Notebook) -> Iterator[Finding]:
    """Files are called NN_slug.ipynb in a folder N_part."""
    if not re.fullmatch(r"\d(_[a-z0-9]+)+/\d\d(_[a-z0-9]+)+", f"{book.part}/{book.id}"):
        yield None, "it is not called N_part/NN_slug.ipynb, digits and lower-case words; rename it"


def file_format(book: Notebook) -> Iterator[Finding]:
    """nbformat 4.5 with unique cell ids, and the plain Python kernel."""
    ids = {cell.raw.get("id") for cell in book.cells}
    if book.nbformat < (4, 5) or None in ids or len(ids) < len(book.cells):
        yield None, "it is not of format 4.5 with an id of its own for each cell; save it once in a present JupyterLab"
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
    dirty = [number for number, cell in enumerate(book.cells, start=1) if stripped(cell.raw) != cell.raw]
    for number in [None] * bool(book.metadata.keys() - NOTEBOOK_METADATA) + dirty:
        yield number, "has outputs, counts or metadata of an editor or a run; remove them with ilbook hygiene --strip"


def tags(book: Notebook) -> Iterator[Finding]:
    """Only tags that something reads."""
    for number, cell in enumerate(book.cells, start=1):
        yield from ((number, str(unknown("tag", tag, sorted(TAGS)))) for tag in cell.tags if tag not in TAGS)


def title(book: Notebook) -> Iterator[Finding]:
    """The first cell is the title and the result in a sentence; no other cell has a title."""
    if not book.cells or book.cells[0].kind != "markdown" or not re.match(r"# \S.*\n\s*\S", book.cells[0].source):
        yield 1, "the first cell is not a title ('# ...') with the result in one sentence below it; write both"
    for number, cell in book.numbered("markdown"):
        if number > 1 and re.search(r"^# ", cell.prose, re.MULTILINE):
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
    elif not all("#" in line for line in cell.source.splitlines() if line.strip()):
        yield number, "a parameter has no comment; say what it means"
    for key, value in (("profile", "lecture"), ("seed", 0)):
        if values[key] != value:
            yield number, f"{key} is not {value!r} in the file; set it back"


def set_up(book: Notebook) -> Iterator[Finding]:
    """The second code cell imports ilbook first of all, for what must stand before torch, and starts the run."""
    for number, cell in book.numbered("code")[1:2]:
        if [ast.unparse(line) for line in cell.tree.body[:1]] != ["import ilbook"]:
            yield number, "the set-up cell does not begin with import ilbook; let it stand before all other imports"
        if not re.search(rf"Run\.start\(\s*[\"']{re.escape(book.id)}[\"'],\s*profile,\s*seed\s*\)", cell.source):
            yield number, f'the second code cell does not call Run.start("{book.id}", profile, seed); call it there'


def sentinel(book: Notebook) -> Iterator[Finding]:
    """The very last cell is `run.finish()`: only that proves that the notebook ran to its end."""
    *others, last = [cell.source.strip() if cell.kind == "code" else "" for cell in book.cells] or [""]
    if last != "run.finish()" or any("run.finish(" in source for source in others):
        yield None, "the last cell, and no other, is to be exactly run.finish(); correct that"


def size(book: Notebook) -> Iterator[Finding]:
    """As much code and prose as is right for a page, about half for a variant; a draft may have less.

    Cells with guesses, questions, exercises and players do not count.
    """
    cells = [cell for cell in book.code_cells if not cell.tagged(*TEACHING)]
    lengths = [len(cell.source.strip().splitlines()) for cell in cells] or [0]
    words = sum(len(re.findall(r"\w[\w'’-]*", cell.words)) for _, cell in book.numbered("markdown"))
    share = 0.5 if book.kind == "variant" else 1.0
    for what, found, low, high in (
        ("lines in its longest code cell", max(lengths), 0, 25),
        ("lines in its median code cell", statistics.median(lengths), 0, 10),
        ("lines of code", sum(lengths), 0, 350 * share),
        ("code cells", len(cells), 15 * share, 35 * share),
        ("words", words, 1500 * share, 3000 * share),
    ):
        if not (low <= found or book.kind == "draft") or found > high:
            yield None, f"has {found:g} {what}; {low:g} to {high:g} are right for one page"
