"""From an executed notebook to the two files a reader opens: a clean .ipynb for the book and one stand-alone page."""

import copy
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from ilbook.paths import build
from ilbook.press import myst
from ilbook.press.record import Plan

TEMPLATES = Path(__file__).parent / "template"
MATHJAX = "book_assets/mathjax/tex-chtml.js"
KEPT_METADATA = ("kernelspec", "language_info", "ilbook")
FOLDED = {"predict", "concept", "player"}  # their code holds the answers, or nothing to learn from
CELL_FILE = re.compile(re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+/\d+\.py")
HEADING = re.compile(r'<h2 id="([^"]*)"[^>]*>(.*?)<a class="anchor-link"', re.DOTALL)
REMOVED = {f"remove_{kind}_tags": [f"remove-{kind}"] for kind in ("cell", "input")}
REMOVED["remove_all_outputs_tags"] = ["remove-output"]
# Everything but widgets, which need a script from the web: each widget has a static twin.
SHOWN = ("text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain")


def write(plan: Plan, scratch: Path) -> None:
    """Write page.ipynb and page.html into `scratch` from its raw.ipynb."""
    book = nbformat.read(scratch / "raw.ipynb", as_version=4)
    top, made = plan.root, build(plan.root)
    clean(book, {scratch / "out": f"build/{plan.out.relative_to(made)}", f"{top}/": "", top: ".", made: "build"})
    nbformat.write(book, scratch / "page.ipynb")
    (scratch / "page.html").write_text(html(book, plan), encoding="utf-8")


def clean(book: nbformat.NotebookNode, places: dict[str | Path, str]) -> None:
    """Take out what depends on this machine or on papermill; `places`: path in the repository -> what is written."""
    book.metadata = nbformat.from_dict({k: v for k, v in book.metadata.items() if k in KEPT_METADATA})
    places = {**places, sys.prefix: "python", f"{Path.home()}/": "~/"}
    for cell in book.cells:
        tags = list(cell.metadata.get("tags", []))
        tags += ["hide-input"] if FOLDED.intersection(tags) and "hide-input" not in tags else []
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            text = CELL_FILE.sub("this cell", json.dumps(cell.outputs, ensure_ascii=False))
            for path, name in places.items():
                text = text.replace(str(path), name)
            cell.outputs = [nbformat.from_dict(output) for output in json.loads(text)]
            kinds = [kind for output in cell.outputs for kind in output.get("metadata", {}).values()]
            texts = [kind["alt"] for kind in kinds if "alt" in kind]
            if texts:  # the book's builder looks for it here
                cell.metadata["mystnb"] = {"image": {"alt": " ".join(texts)}}


def html(book: nbformat.NotebookNode, plan: Plan) -> str:
    """The executed notebook as one page that asks nothing of the network; MathJax is the repository's own copy."""
    shown = copy.deepcopy(book)
    references = myst.references(plan.root / "references.bib")
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = myst.plain(cell.source, references)
    config = {
        "NbConvertBase": {"display_data_priority": list(SHOWN)},
        "TagRemovePreprocessor": {"enabled": True, **REMOVED},
        "TemplateExporter": {"exclude_input_prompt": True, "exclude_output_prompt": True},
    }
    folder, name = [str(TEMPLATES.parent)], TEMPLATES.name
    exporter = HTMLExporter(config=Config(config), extra_template_basedirs=folder, template_name=name)
    others = [f"{key} {value}" for key, value in plan.parameters.items() if key != "profile"]
    facts = " · ".join([plan.notebook.id, f"{plan.profile} profile", *others])
    mathjax = os.path.relpath(plan.root / MATHJAX, plan.folder)
    about = {"title": plan.notebook.title, "facts": facts, "mathjax": mathjax}
    text, _ = exporter.from_notebook_node(shown, resources={"ilbook": about})
    found = [(anchor, re.sub("<[^>]*>", "", words)) for anchor, words in HEADING.findall(text)]
    links = [f'<li><a href="#{anchor}">{words}</a></li>' for anchor, words in found]
    return text.replace("<!-- headings -->", "".join(links), 1)
