"""From an executed notebook to its page: nothing of this machine is left, and no MyST mark shows."""

import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from ilbook.press import myst, notebook, page, record

ROOT = "/somewhere/book"
SCRATCH = f"{ROOT}/build/executed/smoke/.part-1-01_page"
PLACES = {f"{SCRATCH}/out": "build/runs/01_page/smoke", f"{ROOT}/": "", ROOT: "."}
TITLE = notebook.Cell("markdown", "# The <title>\n\nText.", {})
PAGE = notebook.Notebook(Path(ROOT, "notebooks", "1_part", "01_page.ipynb"), (TITLE,), {}, (4, 5))
GIVEN = {"profile": "smoke", "seed": 3}
PLAN = record.Plan(Path(ROOT), PAGE, "smoke", GIVEN, GIVEN, {})
KNOWN = {"one": "Doe, 2020", "two": "Doe and Roe, 2021", "three": "Doe et al., 2022"}


def executed(*cells):
    return nbformat.v4.new_notebook(cells=list(cells), metadata={"papermill": {"input_path": ROOT}, "widgets": {}})


def code(*outputs, source="1", **metadata):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def stream(text):
    return nbformat.v4.new_output("stream", text=text)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"saved {SCRATCH}/out/film.mp4", "saved build/runs/01_page/smoke/film.mp4"),
        (f"read {ROOT}/data/demos/a.npz", "read data/demos/a.npz"),
        (f"in {ROOT}", "in ."),
        (f"{sys.prefix}/lib/x.py:3: UserWarning", "python/lib/x.py:3: UserWarning"),
        (f"{Path.home()}/x", "~/x"),
        (f"{tempfile.gettempdir()}/ipykernel_31/12.py:2: UserWarning", "this cell:2: UserWarning"),
    ],
)
def test_outputs_lose_what_belongs_to_this_machine(said, shown):
    rich = nbformat.v4.new_output("display_data", {"text/html": f"<b>{said}</b>"})
    book = executed(code(stream(said), rich, papermill={"duration": 1.0}, execution={}, tags=["hide-input"]))
    page.clean(book, PLACES)
    (cell,) = book.cells
    assert cell.outputs[0].text == shown and cell.outputs[1].data["text/html"] == f"<b>{shown}</b>"
    assert cell.metadata == {"tags": ["hide-input"]}
    assert book.metadata == {}


def test_the_text_of_a_picture_reaches_the_book():
    picture = nbformat.v4.new_output("display_data", {"image/png": "aGk="}, metadata={"image/png": {"alt": "A robot."}})
    book = executed(code(picture))
    page.clean(book, PLACES)
    assert book.cells[0].metadata["mystnb"] == {"image": {"alt": "A robot."}}
    assert 'alt="A robot."' in page.html(book, PLAN)


def test_the_page_stands_alone_and_keeps_the_tags():
    book = executed(
        nbformat.v4.new_markdown_cell("# The <title>\n\nText."),
        nbformat.v4.new_markdown_cell("## First *part*\n\nSee {cite}`one` and {doc}`notation`."),
        code(source="hidden_source = 1", tags=["hide-input"]),
        code(stream("dropped output"), source="removed = 1", tags=["remove-cell"]),
        code(stream("kept output"), source="gone = 1", tags=["remove-input"]),
        code(
            nbformat.v4.new_output(
                "display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "twin"}
            )
        ),
    )
    page.clean(book, PLACES)
    text = page.html(book, PLAN)
    assert "<title>The &lt;title&gt;</title>" in text and "01_page · smoke profile · seed 3" in text
    assert '<li><a href="#First-part">First part</a></li>' in text
    assert "<summary>Show the code</summary>" in text
    assert "kept output" in text and "twin" in text
    assert not [word for word in ("dropped output", "gone", "removed", "{cite}", "{doc}", "In&nbsp;[") if word in text]
    assert text.count("<script") == 2 and 'src="../../../book_assets/mathjax/tex-chtml.js"' in text


@pytest.mark.parametrize("tag", ["predict", "concept", "player"])
def test_a_question_shows_itself_and_folds_its_code(tag):
    question = nbformat.v4.new_output("display_data", {"text/html": "<details><summary>B</summary>No.</details>"})
    book = executed(code(question, source="check.concept(answers)", tags=[tag]))
    page.clean(book, PLACES)
    assert book.cells[0].metadata == {"tags": [tag, "hide-input"]}
    text = page.html(book, PLAN)
    assert "<details><summary>B</summary>No.</details>" in text
    assert text.index("<summary>Show the code</summary>") < text.index("answers")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("As {cite}`one` says", "As (Doe, 2020) says"),
        ("As {cite:t}`two` say", "As Doe and Roe, 2021 say"),
        ("{cite:p}`three,one`", "(Doe et al., 2022; Doe, 2020)"),
        ("{cite}`none`", "(none)"),
        ("{term}`initial states <initial state>`", "initial states"),
        ("```{math}\n:label: e\na = b\n```", "$$\na = b\n$$"),
        ("```python\nx = {'a': 1}\n```", "```python\nx = {'a': 1}\n```"),
    ],
)
def test_myst_becomes_plain_markdown(text, wanted):
    assert myst.plain(text, KNOWN) == wanted


def test_references_are_read_from_a_bibliography(tmp_path):
    path = tmp_path / "references.bib"
    path.write_text(
        "% a comment\n@article{one,\n  author = {Doe, Jane and\n    Roe, Max},\n"
        "  title = {A {Big} Title},\n  year = {2020},\n}\n\n"
        '@misc{two,\n  author = "Jane Doe",\n  year = "2021"\n}\n'
        "@misc{three, author = {Doe, Jane and Max van den Roe and {The Team}}, year = {2022}}\n"
        "@misc{four, author = {{The Team}}}\n@misc{five, title = {Nobody's}}\n"
    )
    known = myst.references(path)
    assert known == {
        "one": "Doe and Roe, 2020", "two": "Doe, 2021", "three": "Doe et al., 2022", "four": "The Team", "five": "five",
    }  # fmt: skip
    assert myst.references(tmp_path / "none.bib") == {}


def test_every_entry_of_the_books_bibliography_can_be_cited():
    path = Path(__file__).resolve().parents[2] / "references.bib"
    known = myst.references(path)
    assert len(known) == path.read_text().count("\n@") + 1
    assert [key for key in known if ", " not in myst.plain(f"{{cite}}`{key}`", known)] == []
