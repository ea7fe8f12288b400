"""The rules for notebooks, whose code is looked at and never run; what ruff finds, `notebooks.toml` says."""

import ast
import dis
import re
import statistics
from collections.abc import Iterator
from types import CodeType

from ilbook.errors import UserError, unknown
from ilbook.page.versions import NO_RESULT
from ilbook.press import notebook as notebooks
from ilbook.press import results
from ilbook.press.notebook import TEACHING, Notebook

NOTEBOOK_METADATA = {"kernelspec", "language_info", "ilbook"}
TAGS = {
    "parameters", "failure", *TEACHING, "full-width", "scroll-output",
    "hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell",
}  # fmt: skip
Finding = tuple[int | None, str]  # cell number from 1, or None for the whole notebook; what is wrong and what to do
SECTIONS = {  # in this order, other sections between them
    "learning goals": r"learn|goals", "claims": r"claim|verdict", "where it fails": r"fails|limits",
    "what we changed from the paper": r"changed|differs", "exercises": r"exercise", "summary": r"summary|in short",
    "references": r"reference|reading|next",
}  # fmt: skip
CHANGES = ("data", "loss", "architecture", "sampler", "controller", "collection")
PERCENT = re.compile(r"\b\d+(\.\d+)?\s?(%|percent|per cent)")
FIXED_LEVEL = re.compile(r"\b95\s?(%|per ?cent)")  # the level of every interval: a convention, not a result
CITED = re.compile(r"\{cite|the paper|\bpaper\b")
FROM_WEB = r"(!\[[^\]]*\]\(|<(img|video|iframe|script)\b[^>]*(src|href)\s*=\s*[\"']?)(https?:)?//[^\s)>]*"
NO_TEXT = r"!\[\s*\]\([^)]*\)|<img\b(?![^>]*\balt\s*=\s*[\"'][^\"'])[^>]*>"
ABSOLUTE = r"([\"'])((/[\w.-]+)+/?|~/.*?|[A-Za-z]:[\\/].*?)\1"
FORBIDDEN = (  # kind of cell, pattern, what to do
    ("markdown", NO_TEXT, "has no alt text; describe it"),
    ("markdown", FROM_WEB, "is loaded from the web; put it beside the pages"),
    ("markdown", r"\(attachment:[^)]*\)", "is an attached file; draw the picture in code, or put it beside the pages"),
    ("code", r"\b(SystemExit|get_ipython)\b", "has no place here; a notebook ends with run.finish() and has no shell"),
    ("code", r"https?://\S*", "is a web address in code; a notebook loads nothing from the web"),
    ("code", r"(?m)^\s*[%!]+[a-z].*", "is no Python; write plain Python, without shell lines and magics"),
    ("code", ABSOLUTE, "is an absolute path; use run.out or a path inside the repository"),
)
LEAST = {"predict": 2, "concept": 3, "exercise": 1}  # calls of check on a page
HEADING_OR_FORMULA = re.compile(r"(?m)^##+ +(?P<heading>.+)$|^\s*\$\$|^```\{math\}|\\begin\{(align|equation|gather)")
BASELINE = re.compile(r"baseline|cloning|regression", re.IGNORECASE)  # in the heading of a method that will fail


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
    if [cell for cell in book.code_cells if cell.tagged("parameters")] != [book.code_cells[0]]:
        yield None, "the first code cell, and no other, is to have the tag 'parameters'; move or merge them"
    if not all("#" in line for line in book.code_cells[0].source.splitlines() if line.strip()):
        yield None, "a parameter has no comment; say what it means"
    if (values["profile"], values["seed"]) != ("lecture", 0):
        yield None, "profile is not 'lecture' or seed is not 0 in the file; set it back"


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
    """As much code (without cells that teach) and prose as is right; a variant about half, a draft also less."""
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


def sections(book: Notebook) -> Iterator[Finding]:
    """The sequence that every page has; one heading may stand for two sections: "Summary and references"."""
    prose = "\n".join(cell.prose for _, cell in book.numbered("markdown"))
    headings = re.findall(r"^##+ (.+)$", prose, re.MULTILINE)
    for section, pattern in SECTIONS.items():
        places = [place for place, heading in enumerate(headings) if re.search(pattern, heading, re.IGNORECASE)]
        headings = headings[places[0] :] if places else headings
        if not places:
            yield None, f"there is no section on {section} in its place; the order is {', '.join(SECTIONS)}"


def tables(book: Notebook) -> Iterator[Finding]:
    """A symbol-to-code table everywhere; on the page of a method also the six rows of what it changes."""
    texts = [cell.source for _, cell in book.numbered("markdown")]
    rows = [row for text in texts for row in re.findall(r"^\|(.+)\|\s*$", text, re.MULTILINE)]
    heads = [[field.strip(" *`").lower() for field in row.split("|")] for row in rows]
    if not any("symbol" in head[0] and any("code" in field for field in head[1:]) for head in heads):
        yield None, "there is no table from symbols to code; add one with the columns symbol, code, meaning"
    missing = [name for name in CHANGES if name not in [head[0] for head in heads]]
    if missing and not book.part.endswith("foundations"):
        yield None, f"the table of what changes has no row {', '.join(missing)}; it needs {', '.join(CHANGES)}"


def typed_number(book: Notebook) -> Iterator[Finding]:
    """No result is typed: a percentage in prose must be somebody else's, with its source in the same paragraph."""
    for number, cell in book.numbered("markdown"):
        for paragraph in re.split(r"\n\s*\n", cell.words):
            found = PERCENT.search(FIXED_LEVEL.sub("", paragraph))
            if found and not CITED.search(paragraph):
                yield number, f"types the number {found[0]!r}; let the notebook print it, or cite where it comes from"


def forbidden(book: Notebook) -> Iterator[Finding]:
    """Nothing from the web, no path of one machine, no shell; pictures have a text for those who cannot see them."""
    for kind, pattern, advice in FORBIDDEN:
        for number, cell in book.numbered(kind):
            yield from ((number, f"{found[0]} {advice}") for found in re.finditer(pattern, cell.source, re.IGNORECASE))


def profile(book: Notebook) -> Iterator[Finding]:
    """Only `run.pick(smoke=, lecture=, full=)` depends on the profile."""
    starts = [call for _, call in book.nodes(ast.Call) if ast.unparse(call.func).endswith("Run.start")]
    allowed = {node for call in starts for node in ast.walk(call)}
    for number, node in book.nodes(ast.Name | ast.Attribute):
        read = ast.unparse(node) if isinstance(node.ctx, ast.Load) and node not in allowed else ""
        if read in ("profile", "run.profile"):
            yield number, f"`{read}` is used outside Run.start; use run.pick(smoke=, lecture=, full=)"


def claims(book: Notebook) -> Iterator[Finding]:
    """Every claim is written out; that it is declared before the data and judged in the end, the run sees to."""
    try:
        results.declared(book)
    except UserError as error:
        yield None, str(error)


def teaching(book: Notebook) -> Iterator[Finding]:
    """Two guesses before results, three questions, an exercise with its check, each in a cell with its tag."""
    calls = book.checks()
    for name, least in LEAST.items():
        found = [number for number, what, _ in calls if what == name]
        if len(found) < least:
            yield None, f"has {len(found)} check.{name}(...); a page has at least {least}"
        tagged = {number for number, cell in book.numbered("code") if name in cell.tags}
        for number in (set(found) - tagged) | (tagged - {number for number, *_ in calls}):
            yield number, f"calls check.{name} without the tag {name!r}, or has the tag and calls nothing of check"
    results = [number for number, cell in book.numbered("code") if not cell.tagged(*NO_RESULT)][:-1]  # without finish
    for number, about in ((number, about) for number, what, about in calls if what == "predict"):
        told = [of for of, what, other in calls if other == about and what not in LEAST]
        if number > max(results, default=0) or min(told, default=number + 1) <= number:
            yield number, f"asks for the guess {about!r} when the result has been seen; ask in a cell before it"


def leak(book: Notebook) -> Iterator[Finding]:
    """No result depends on a cell that teaches or only draws: other cells and their functions read no name it bound."""
    leaked: dict[str, int] = {}  # name -> the tagged cell that bound it last
    needed: dict[str, int] = {}  # name -> the untagged cell with a function that reads it
    for number, cell in book.numbered("code"):
        bound, read, later = _flow(compile(cell.tree, "cell", "exec"))
        if cell.tagged(*NO_RESULT):
            leaked |= dict.fromkeys(bound, number)
            pairs = [(name, number, needed[name]) for name in bound & needed.keys()]
        else:
            needed |= dict.fromkeys(later, number)
            pairs = [(name, leaked[name], number) for name in (read | later) & leaked.keys()]
            leaked = {name: of for name, of in leaked.items() if name not in bound}
        for name, of, reader in sorted(pairs):
            yield of, f"binds {name}, which cell {reader} reads; bind it in a cell without these tags"


def _flow(code: CodeType) -> tuple[set[str], set[str], set[str]]:
    """Names that this code binds, those that it reads from outside, and those that its functions read when called."""
    bound, read, later = set(), set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            bound.add(step.argval)
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL") and step.argval not in bound:
            read.add(step.argval)
        elif isinstance(step.argval, CodeType):
            inside, now, then = _flow(step.argval)
            is_class = "__qualname__" in inside
            bound |= set() if is_class else inside  # a function binds outer names only where it says `global`
            later |= now | then
    return bound, read, later - bound


def failure_first(book: Notebook) -> Iterator[Finding]:
    """The failure, in the cell with the tag `failure`, is seen before any formula but those of what fails."""
    shown = next((number for number, cell in book.numbered("code") if "failure" in cell.tags), None)
    if shown is None:
        yield None, "no code cell has the tag 'failure'; put it on the cell that shows what the page is to mend"
        return
    heading = ""
    for number, cell in book.numbered("markdown"):
        for mark in HEADING_OR_FORMULA.finditer(cell.prose) if number < shown else ():
            heading = mark["heading"] or heading
            if not mark["heading"] and not BASELINE.search(heading):
                yield number, f"has a formula before the failure, which cell {shown} shows; show the failure first"
                return


RULES = (
    name, file_format, clean, tags, title, parameters, set_up, sentinel, size, draft, sections, tables, typed_number,
    forbidden, profile, claims, teaching, leak, failure_first,
)  # fmt: skip
