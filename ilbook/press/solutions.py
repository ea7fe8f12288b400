"""Solutions of a page's exercises, in `solutions/<id>.py` beside its notebook, and wrong answers that checks refuse.

A line `# exercise: 1` begins the solution of exercise "1", each line `# wrong: 1` a wrong answer, for tests alone.
"""

import re
from pathlib import Path

from ilbook.errors import UserError

SECTION = re.compile(r"^# (?:%% )?(exercise|wrong): *(\S.*?) *$", re.MULTILINE)


def path(notebook: Path) -> Path:
    """Where the solutions for the notebook at this path lie."""
    return notebook.parent / "solutions" / f"{notebook.stem}.py"


def read(notebook: Path) -> dict[str, str]:
    """Name of each exercise -> source text of its solution; empty where there is no file."""
    return {name: texts[0] for name, texts in _sections(notebook, "exercise").items()}


def wrong(notebook: Path) -> dict[str, list[str]]:
    """Name of each exercise -> source texts of the wrong answers to it."""
    return _sections(notebook, "wrong")


def _sections(notebook: Path, wanted: str) -> dict[str, list[str]]:
    """The sections of one kind by the name of their exercise. UserError for a file that mixes them up."""
    file = path(notebook)
    _, *parts = SECTION.split(file.read_text(encoding="utf-8") if file.exists() else "")  # the first says what it is
    found: dict[str, dict[str, list[str]]] = {"exercise": {}, "wrong": {}}
    for kind, name, text in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        found[kind].setdefault(name, []).append(text.strip() + "\n")
    for name in found["exercise"] | found["wrong"]:
        right = found["exercise"].get(name, [])
        if len(right) != 1 or "\n" in right:
            raise UserError(f"{file.name}: exercise {name!r} needs one solution; write it below '# exercise: {name}'")
    return found[wanted]
