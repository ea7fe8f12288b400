"""From an executed notebook to the two files a reader opens: a clean .ipynb for the book and one stand-alone page."""

import copy
import re
import sys
import tempfile
from html import unescape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from ilbook.press import myst

TEMPLATES = Path(__file__).parent / "template"
KEPT_METADATA = ("kernelspec", "language_info", "ilbook")
DROPPED_CELL_METADATA = ("papermill", "execution", "pycharm", "collapsed", "ExecuteTime")
CELL_FILE = re.compile(re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+/\d+\.py")
HEADING = re.compile(r'<h2 id="([^"]*)"[^>]*>(.*?)<a class="anchor-link"', re.DOTALL)
# Everything but widgets, which need a script from the web: each widget has a static twin.
SHOWN = ("text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain")


def write(job: dict, scratch: Path) -> int:
    """Write page.ipynb and page.html into `scratch` from its raw.ipynb; return how many code cells never ran."""
    book = nbformat.read(scratch / "raw.ipynb", as_version=4)
    clean(book, job)
    nbformat.write(book, scratch / "page.ipynb")
    (scratch / "page.html").write_text(html(book, job), encoding="utf-8")
    cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    return sum(cell.execution_count is None for cell in cells)


def clean(book: nbformat.NotebookNode, job: dict) -> None:
    """Take out of an executed notebook what depends on this machine or on papermill: paths, timings, widget state."""
    book.metadata = nbformat.from_dict({k: v for k, v in book.metadata.items() if k in KEPT_METADATA})
    for cell in book.cells:
        for name in DROPPED_CELL_METADATA:
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(_scrub(output, job)) for output in cell.outputs]
            texts = [
                kind["alt"] for output in cell.outputs for kind in output.get("metadata", {}).values() if "alt" in kind
            ]
            if texts:  # the book's builder looks for it here
                cell.metadata["mystnb"] = {"image": {"alt": " ".join(texts)}}


def _scrub(value, job: dict):
    """`value` with every absolute path in its texts made relative to the repository."""
    if isinstance(value, dict):
        return {key: _scrub(item, job) for key, item in value.items()}
    if isinstance(value, list):
        return [_scrub(item, job) for item in value]
    if not isinstance(value, str):
        return value
    for path, name in (*job["moves"], (job["root"] + "/", ""), (job["root"], "."), (sys.prefix, "python")):
        value = value.replace(path, name)
    return CELL_FILE.sub("this cell", value).replace(str(Path.home()) + "/", "~/")


def html(book: nbformat.NotebookNode, job: dict) -> str:
    """The executed notebook as one page that asks nothing of the network; MathJax is the repository's own copy."""
    shown = copy.deepcopy(book)
    references = myst.references(Path(job["root"]) / "references.bib")
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = myst.plain(cell.source, references)
    config = Config()
    config.NbConvertBase.display_data_priority = list(SHOWN)
    config.TagRemovePreprocessor.remove_cell_tags = ["remove-cell"]
    config.TagRemovePreprocessor.remove_input_tags = ["remove-input"]
    config.TagRemovePreprocessor.remove_all_outputs_tags = ["remove-output"]
    config.TagRemovePreprocessor.enabled = True
    config.TemplateExporter.exclude_input_prompt = True
    config.TemplateExporter.exclude_output_prompt = True
    exporter = HTMLExporter(
        config=config, extra_template_basedirs=[str(TEMPLATES.parent)], template_name=TEMPLATES.name
    )
    resources = {
        "ilbook": {"title": _title(book, job), "facts": job["facts"], "mathjax": job["mathjax"], "headings": []}
    }
    text, _ = exporter.from_notebook_node(shown, resources=resources)
    headings = [(anchor, unescape(re.sub(r"<[^>]*>", "", text))) for anchor, text in HEADING.findall(text)]
    resources["ilbook"]["headings"] = headings
    return exporter.from_notebook_node(shown, resources=resources)[0]


def _title(book: nbformat.NotebookNode, job: dict) -> str:
    for cell in book.cells:
        heading = re.search(r"^# (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            return heading.group(1).strip()
    return job["id"]
