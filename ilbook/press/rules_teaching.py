"""Rules about how a page teaches: guesses, questions and exercises, what they may leave behind, the failure first."""

import dis
import re
from collections.abc import Iterator
from types import CodeType

from ilbook.page.versions import NO_RESULT
from ilbook.press.notebook import Notebook
from ilbook.press.rules_form import Finding

LEAST = {"predict": 2, "concept": 3, "exercise": 1}  # calls of check on a page
HEADING_OR_FORMULA = re.compile(
    r"^#{2,} +(?P<heading>.+)$|^\s*\$\$|^```\{math\}|\\begin\{(?:align|equation|gather)", re.MULTILINE
)
BASELINE = re.compile(r"baseline|cloning|regression", re.IGNORECASE)


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
    """No result depends on a cell that teaches or only draws: no cell without such a tag reads a name that it binds.

    A name that an untagged cell binds again is safe, unless a function that was written before reads it.
    """
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
    """The failure, in the cell with the tag `failure`, is seen before the first formula of its cure.

    Before it a formula may stand only in a section whose heading names the plain method that is about to fail, such as
    "Cloning: imitation as regression" or "The baseline".
    """
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
