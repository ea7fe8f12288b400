"""Rules about the prose of a notebook: its sections, tables, length and numbers; and what no cell may hold."""

import re
from collections.abc import Iterator

from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding, bounds

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
WORDS = (1500, 3000)
FORMULA_OR_CODE = re.compile(r"^```\{math\}.*?^```|\$\$.*?\$\$|\$[^$\n]+\$|`[^`]*`", re.DOTALL | re.MULTILINE)
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


def _text(prose: str) -> str:
    return FORMULA_OR_CODE.sub(" ", prose)


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


def words(book: Notebook) -> Iterator[Finding]:
    """1,500 to 3,000 words; a variant about half."""
    count = sum(len(re.findall(r"\w[\w'’-]*", _text(cell.prose))) for _, cell in book.numbered("markdown"))
    low, high = bounds(book, *WORDS)
    if not low <= count <= high:
        yield None, f"has {count} words; {low} to {high} are right for one page"


def typed_number(book: Notebook) -> Iterator[Finding]:
    """No result is typed: a percentage in prose must be somebody else's, with its source in the same paragraph."""
    for number, cell in book.numbered("markdown"):
        for paragraph in re.split(r"\n\s*\n", cell.prose):
            found = PERCENT.search(FIXED_LEVEL.sub("", _text(paragraph)))
            if found and not CITED.search(paragraph):
                yield number, f"types the number {found[0]!r}; let the notebook print it, or cite where it comes from"


def forbidden(book: Notebook) -> Iterator[Finding]:
    """Nothing from the web, no path of one machine, no shell; pictures have a text for those who cannot see them."""
    for kind, pattern, advice in FORBIDDEN:
        for number, cell in book.numbered(kind):
            yield from ((number, f"{found[0]} {advice}") for found in re.finditer(pattern, cell.source, re.IGNORECASE))
