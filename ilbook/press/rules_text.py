"""Rules about the prose of a notebook: its sections, tables, length, numbers and pictures."""

import re
from collections.abc import Iterator

from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding, bounds

SECTIONS = (  # in this order, other sections between them
    ("learning goals", r"learn|goals"),
    ("claims", r"claim|verdict"),
    ("where it fails", r"fails|limits"),
    ("what we changed from the paper", r"changed|differs"),
    ("exercises", r"exercise"),
    ("summary", r"summary|in short"),
    ("references", r"reference|reading|next"),
)
CHANGES = ("data", "loss", "architecture", "sampler", "controller", "collection")
WORDS = (1500, 3000)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
MATHS = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
CODE = re.compile(r"`[^`]*`")
PERCENT = re.compile(r"\b\d+(\.\d+)?\s?(%|percent|per cent)")
FIXED_LEVEL = re.compile(r"\b95\s?(%|per ?cent)")  # the level of every interval: a convention, not a result
CITED = re.compile(r"\{cite|the paper|\bpaper\b")


def _prose(text: str) -> str:
    """Markdown without code and formulas."""
    for pattern in (FENCE, MATHS, CODE):
        text = pattern.sub(" ", text)
    return text


def _headings(book: Notebook) -> list[str]:
    texts = (FENCE.sub("", cell.source) for _, cell in book.numbered("markdown"))
    return [heading for text in texts for heading in re.findall(r"^##+ (.+)$", text, re.MULTILINE)]


def sections(book: Notebook) -> Iterator[Finding]:
    """The sequence that every page has."""
    headings, begin = _headings(book), 0
    for section, pattern in SECTIONS:
        places = [place for place, heading in enumerate(headings) if re.search(pattern, heading, re.IGNORECASE)]
        later = [place for place in places if place >= begin]
        if later:
            begin = later[0]  # one heading may stand for two sections: "Summary and references"
        elif places:
            yield None, f"the section on {section} comes too early; put the sections in the order of the book"
        else:
            yield None, f"there is no section on {section}; add a heading that says so"


def tables(book: Notebook) -> Iterator[Finding]:
    """A symbol-to-code table everywhere; on the page of a method also the six rows of what it changes."""
    texts = [cell.source for _, cell in book.numbered("markdown")]
    rows = [row for text in texts for row in re.findall(r"^\|(.+)\|\s*$", text, re.MULTILINE)]
    heads = [[field.strip(" *`").lower() for field in row.split("|")] for row in rows]
    if not any("symbol" in head[0] and any("code" in field for field in head[1:]) for head in heads):
        yield None, "there is no table from symbols to code; add one with the columns symbol, code, meaning"
    if book.part.endswith("foundations"):
        return
    missing = [name for name in CHANGES if name not in [head[0] for head in heads]]
    if missing:
        yield None, f"the table of what changes has no row {', '.join(missing)}; it needs {', '.join(CHANGES)}"


def words(book: Notebook) -> Iterator[Finding]:
    """1,500 to 3,000 words; a variant about half."""
    count = sum(len(re.findall(r"\w[\w'’-]*", _prose(cell.source))) for _, cell in book.numbered("markdown"))
    low, high = bounds(book, *WORDS)
    if not low <= count <= high:
        yield None, f"has {count} words; {low} to {high} are right for one page"


def typed_numbers(book: Notebook) -> Iterator[Finding]:
    """No result is typed: a percentage in prose must be somebody else's, with its source in the same paragraph."""
    for number, cell in book.numbered("markdown"):
        for paragraph in re.split(r"\n\s*\n", cell.source):
            found = PERCENT.search(FIXED_LEVEL.sub("", _prose(paragraph)))
            if found and not CITED.search(paragraph):
                yield number, f"types the number {found[0]!r}; let the notebook print it, or cite where it comes from"


def images(book: Notebook) -> Iterator[Finding]:
    """Pictures in prose have a text for those who cannot see them, and lie in the repository."""
    for number, cell in book.numbered("markdown"):
        for text, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]*)", cell.source):
            if not text.strip():
                yield number, f"the picture {target} has no alt text; describe it between the brackets"
            if re.match(r"(https?:)?//", target):
                yield number, f"the picture {target} is loaded from the web; put it beside the pages"
        for tag in re.findall(r"<(?:img|video|iframe|script)\b[^>]*>", cell.source, re.IGNORECASE):
            if re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", tag):
                yield number, f"{tag[:40]}... is loaded from the web; put it beside the pages"
            if tag.lower().startswith("<img") and not re.search(r"\balt\s*=\s*[\"'][^\"']", tag):
                yield number, f"{tag[:40]}... has no alt text; describe the picture"
