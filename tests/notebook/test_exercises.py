"""Every exercise: the placeholder is not tried yet, the solution is accepted, and each planted wrong answer is refused.

Run are the cells that an exercise needs, in the smoke profile, in this process: those that bind a name which its cell,
or a cell that is needed already, reads.
"""

import ast
import contextlib
import dis
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType

import matplotlib.pyplot as plt
import pytest

from ilbook.press import notebook, solutions

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = {path.stem: path for path in notebook.paths(ROOT)}
FEWEST_WRONG = 3
TEACHING = {"exercise", "predict", "concept"}  # no other cell reads what these bind


@dataclass(frozen=True, repr=False)
class Exercise:
    """A call of `check.exercise`: its name, what the answer is called, the number and the tree of its code cell."""

    page: str
    name: str
    answer: str
    cell: int
    tree: ast.Module

    def with_answer(self, text: str) -> CodeType:
        """The cell with the statement that binds the answer replaced; with empty text as it stands in the notebook."""
        body = list(self.tree.body)
        (place,) = (n for n, statement in enumerate(body) if self.answer in _bound(statement))
        body[place : place + 1] = ast.parse(text).body if text else body[place : place + 1]
        return compile(ast.Module(body, []), f"{self.page}: exercise {self.name}", "exec")


def _bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef):
        return [statement.name]
    return [ast.unparse(target) for target in statement.targets] if isinstance(statement, ast.Assign) else []


@cache
def _cells(page: str) -> tuple[notebook.Cell, ...]:
    """The code cells of a page."""
    return notebook.read(NOTEBOOKS[page]).code_cells


def _exercises(page: str) -> list[Exercise]:
    found = []
    for number, cell in enumerate(_cells(page)):
        for call in ast.walk(tree := ast.parse(cell.source)):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "check.exercise":
                found.append(Exercise(page, call.args[0].value, ast.unparse(call.args[1]), number, tree))
    return found


EXERCISES = [exercise for page in NOTEBOOKS for exercise in _exercises(page)]
WRONG = [
    pytest.param(exercise, text, id=f"{exercise.page}-{exercise.name}-{number}")
    for exercise in EXERCISES
    for number, text in enumerate(solutions.wrong(NOTEBOOKS[exercise.page]).get(exercise.name, ()))
]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: f"{one.page}-{one.name}")


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """Names that a cell binds, and those that it, or a function in it, reads from the cells before."""
    bound, read, later = set(), set(), set()
    for step in dis.get_instructions(code):
        if step.opname == "STORE_NAME":
            bound.add(step.argval)
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL") and step.argval not in bound:
            read.add(step.argval)
        elif isinstance(step.argval, CodeType):
            later |= _names(step.argval)[1]
    return bound, read | (later - bound)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Page -> the names that its exercises find, made once."""
    made: dict[str, dict] = {}

    def names(page: str) -> dict:
        if page not in made:
            made[page] = _run(page)
        return dict(made[page])

    with pytest.MonkeyPatch.context() as patch, plt.rc_context():
        patch.setenv("ILBOOK_ROOT", str(ROOT))
        patch.setenv("ILBOOK_OUT", str(tmp_path_factory.mktemp("out")))
        yield names


def _run(page: str) -> dict:
    codes = [compile(cell.source, f"{page}: code cell {n}", "exec") for n, cell in enumerate(_cells(page))]
    last = max(exercise.cell for exercise in _exercises(page))
    answers = [_names(exercise.with_answer(text)) for exercise in _exercises(page) for text in _answers(exercise)]
    wanted = set().union(*(read for _, read in answers))
    needed = [0, 1]  # parameters and set-up
    for number in range(last, 1, -1):
        bound, read = _names(codes[number])
        if bound & wanted and not TEACHING.intersection(_cells(page)[number].tags):
            needed.append(number)
            wanted = (wanted - bound) | read
    names = {"__name__": "__main__"}  # what a notebook's own functions are recognised by
    with contextlib.redirect_stdout(io.StringIO()):
        for number in sorted(needed):
            exec(codes[number], names)
            if number == 0:
                names["profile"] = "smoke"
    plt.close("all")
    return names


def _answers(exercise: Exercise) -> list[str]:
    path = NOTEBOOKS[exercise.page]
    return ["", solutions.read(path)[exercise.name], *solutions.wrong(path)[exercise.name]]


def _said(exercise: Exercise, text: str, names: dict) -> str:
    """What the check prints when the reader's part of the cell is `text`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(exercise.with_answer(text), names)
    (line,) = (line for line in printed.getvalue().splitlines() if line.startswith(f"Exercise {exercise.name}: "))
    return line.partition(": ")[2]


def test_every_page_has_exercises_and_no_solution_belongs_to_none():
    asked = {page: {exercise.name for exercise in EXERCISES if exercise.page == page} for page in NOTEBOOKS}
    assert all(asked.values())
    assert {page: set(solutions.read(path)) for page, path in NOTEBOOKS.items()} == asked


@each_exercise
def test_an_exercise_has_wrong_answers_enough(exercise):
    planted = solutions.wrong(NOTEBOOKS[exercise.page])[exercise.name]
    assert len(set(planted)) >= FEWEST_WRONG


@each_exercise
def test_the_placeholder_is_not_tried_yet(exercise, pages):
    said = _said(exercise, "", pages(exercise.page))
    assert said == "not tried yet."


@each_exercise
def test_the_solution_is_accepted(exercise, pages):
    said = _said(exercise, solutions.read(NOTEBOOKS[exercise.page])[exercise.name], pages(exercise.page))
    assert said == "solved."


@pytest.mark.parametrize(("exercise", "text"), WRONG)
def test_a_wrong_answer_is_refused_with_a_hint_and_raises_nothing(exercise, text, pages):
    said = _said(exercise, text, pages(exercise.page))
    assert said.startswith("not yet. Hint: ")
