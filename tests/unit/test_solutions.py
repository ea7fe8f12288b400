"""Solutions beside a notebook: read, refused when they are mixed up, folded below their exercises on the site."""

import json

import pytest

from ilbook.errors import UserError
from ilbook.press import notebook, solutions, stage

TEXT = """# What this page asks, answered.

# exercise: 1
share = 0.5

# wrong: 1
share = -0.5
# wrong: 1
share = 1.5

# %% exercise: the second
def f(x):
    # exercise in a comment: not a section
    return x
"""


@pytest.fixture
def page(book, make_cell):
    """A notebook with three exercises, two of them in one cell, and a function that writes its solutions."""
    two = 'f = ...\ncheck.exercise("the second", f)\ncheck.exercise("3", f)'
    cells = [make_cell("markdown", "# T"), make_cell("code", 'check.exercise("1", ...)'), make_cell("code", two)]
    path = book.add("01_page", *cells, make_cell("code", "run.finish()"))

    def write(text):
        solutions.path(path).parent.mkdir(exist_ok=True)
        solutions.path(path).write_text(text)
        return path

    return write


def test_solutions_and_wrong_answers_are_kept_apart(page):
    path = page(TEXT)
    assert solutions.path(path) == path.parent / "solutions" / "01_page.py"
    second = "def f(x):\n    # exercise in a comment: not a section\n    return x\n"
    assert solutions.read(path) == {"1": "share = 0.5\n", "the second": second}
    assert solutions.wrong(path) == {"1": ["share = -0.5\n", "share = 1.5\n"]}


def test_no_file_is_no_solution(book):
    path = book.quick("01_page")
    assert solutions.read(path) == solutions.wrong(path) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# exercise: 1\nx = 1\n# exercise: 1\nx = 2\n", "exercise '1' needs one solution"),
        ("# exercise: 1\n\n# wrong: 1\nx = 2\n", "exercise '1' needs one solution"),
        ("# exercise: 1\nx = 1\n# wrong: 2\nx = 2\n", "exercise '2' needs one solution"),
    ],
)
def test_a_file_that_mixes_things_up_is_refused_in_one_sentence(page, text, words):
    path = page(text)
    for read in (solutions.read, solutions.wrong):
        with pytest.raises(UserError, match=words) as caught:
            read(path)
        assert "01_page.py" in str(caught.value) and "\n" not in str(caught.value)


def test_each_solution_is_folded_below_its_exercise_and_wrong_answers_never_show(page, tmp_path):
    path = page(TEXT + "\n# exercise: 3\nlast = 3\n")
    shown = stage.with_solutions(path, path)
    cells = json.loads(shown)["cells"]
    assert [cell["source"].splitlines()[0] for cell in cells] == [
        "# T", 'check.exercise("1", ...)', ":::{dropdown} A solution", "f = ...", *[":::{dropdown} A solution"] * 2,
        "run.finish()",
    ]  # fmt: skip
    assert cells[2]["source"] == ":::{dropdown} A solution\n````python\nshare = 0.5\n````\n:::"
    assert "def f(x)" in cells[4]["source"] and "last = 3" in cells[5]["source"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert "-0.5" not in shown and "1.5" not in shown
    copied = tmp_path / "page.ipynb"
    copied.write_text(shown)
    assert [cell.kind for cell in notebook.read(copied).cells].count("markdown") == 4


def test_the_site_is_put_together_from_a_read_only_checkout(tmp_path):
    """Its folders and files are copied without their rights, so that pages can be written and removed again."""
    source = tmp_path / "notebooks"
    for name in ("1_part/page.md", "1_part/solutions/01.py", ".hidden/x", "intro.md"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    places = [*source.rglob("*"), source]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    stage._copy(source, tmp_path / "stage")
    copied = {str(file.relative_to(tmp_path / "stage")): file for file in (tmp_path / "stage").rglob("*")}
    assert copied.keys() == {"1_part", "1_part/page.md", "intro.md"}
    assert all(file.stat().st_mode & 0o200 for file in copied.values())
    for place in places:
        place.chmod(0o755)
