"""`ilbook new`: the skeleton of a task, a policy or a page, which runs and keeps every contract from the start."""

import keyword
import re
from pathlib import Path
from string import Template

from ilbook.errors import UserError
from ilbook.paths import root, write_file
from ilbook.press import notebook

TEMPLATES = Path(__file__).parent / "template" / "new"  # kind / where it is stamped, and ".txt" behind it
MODULE = (r"[a-z][a-z0-9]*(_[a-z0-9]+)*", "lower-case words joined by '_' such as reach, and no word of Python")
PAGE = (r"\d(_[a-z0-9]+)+/\d\d(_[a-z0-9]+)+", "PART/NN_slug, lower-case words such as 2_cloning/01_median")
CHECK = ".venv/bin/python -m pytest tests/contract tests/golden -k $slug"
THEN = {  # what to type
    "task": ('make golden PART="tasks.$slug experts.$slug"', CHECK),
    "policy": ("make golden PART=policies.$slug", CHECK),
    "page": (
        "ilbook hygiene notebooks/$part/$slug.ipynb",
        "ilbook run $slug --profile smoke",
        ".venv/bin/python -m pytest tests/notebook -k $slug",
    ),
}


def stamp(kind: str, name: str) -> tuple[list[Path], list[str]]:
    """Write the files of a new "task", "policy" or "page"; them, and what to type then. UserError for a name in use."""
    pattern, names = PAGE if kind == "page" else MODULE
    if not re.fullmatch(pattern, name) or keyword.iskeyword(name):
        raise UserError(f"{name!r} cannot name a {kind}; give {names}")
    part, _, slug = name.rpartition("/")
    words = {"part": part, "slug": slug, "Name": slug.title().replace("_", "")}
    texts = {}
    for file in sorted((TEMPLATES / kind).rglob("*.txt")):
        to = root() / _filled(str(file.relative_to(TEMPLATES / kind).with_suffix("")), words)
        texts[to] = _filled(file.read_text(encoding="utf-8"), words)
    for path in (*texts, *notebook.paths(root())):
        if path.exists() and (path in texts or path.stem == slug):  # the id of a page is unique in the book
            raise UserError(f"{path.relative_to(root())} exists; choose another name, or remove it first")
    for path, text in texts.items():
        write_file(path, _notebook(text) if path.suffix == ".ipynb" else text)
    return list(texts), [_filled(line, words) for line in THEN[kind]]


def _filled(text: str, words: dict[str, str]) -> str:
    return Template(text.replace("$$", "$$$$")).safe_substitute(words)  # formulas keep their dollars


def _notebook(text: str) -> str:
    """A page in percent text ("# %% [markdown]", "# %% tags") as a notebook, which is a draft until it is finished."""
    from nbformat import v4, writes

    cells = []
    for head, source in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n)*)", text, re.MULTILINE):
        prose = head.strip() == "[markdown]"
        new = v4.new_markdown_cell if prose else v4.new_code_cell
        metadata = {} if prose or not head.strip() else {"tags": head.split()}
        cells.append(new(source.strip(), id=f"cell-{len(cells):02d}", metadata=metadata))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = v4.new_notebook(cells=cells, metadata={"ilbook": {"kind": "draft"}, "kernelspec": kernel})
    return writes(book) + "\n"
