"""Rules about what a notebook says, in prose and in code, which is not run; `notebooks.toml` holds ruff's."""

import ast
import re
from collections.abc import Iterator

from ilbook.errors import UserError
from ilbook.press import results
from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding

SECTIONS = {  # in this order, other sections between them
    "learning goals": r"learn|goals",
    "claims": r"claim|verdict",
    "where it fails": r"fails|limits",
    "what we changed from the paper": r"changed|differs",
    "exercises": r"exercise",
    "summary": r"summary|in short",
    "references": r"reference|reading|next",
}
CHANGES = ("data", "loss", "architecture", "sampler", "controller", "collection")
PERCENT = re.compile(r"\b\d+(\.\d+)?\s?(%|percent|per cent)")
FIXED_LEVEL = re.compile(r"\b95\s?(%|per ?cent)")  # the level of every interval: a convention, not a result
CITED = re.compile(r"\{cite|the paper|\bpaper\b")
FORBIDDEN = (  # kind of cell, pattern, what to do
    ("markdown", r"!\[\s*\]\([^)]*\)|<img\b(?![^>]*\balt\s*=\s*[\"'][^\"'])[^>]*>", "has no alt text; describe it"),
    (
        "markdown",
        r"(!\[[^\]]*\]\(|<(img|video|iframe|script)\b[^>]*(src|href)\s*=\s*[\"']?)(https?:)?//[^\s)>]*",
        "is loaded from the web; put it beside the pages",
    ),
    ("markdown", r"\(attachment:[^)]*\)", "is an attached file; draw the picture in code, or put it beside the pages"),
    (
        "code",
        r"\bSystemExit\b|\bget_ipython\b",
        "has no place here; a notebook ends with run.finish(), without a shell",
    ),
    ("code", r"https?://\S*", "is a web address in code; a notebook loads nothing from the web"),
    (
        "code",
        r"([\"'])((/[\w.-]+)+/?|~/.*?|[A-Za-z]:[\\/].*?)\1",
        "is an absolute path; use run.out or a path inside the repository",
    ),
)


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
