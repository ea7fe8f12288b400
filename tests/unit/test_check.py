import pytest

from ilbook.errors import UserError
from ilbook.page import check

POSITIVE = (lambda x: x > 0, "it must be positive")
EVEN = (lambda x: x % 2 == 0, "it must be even")


def body_is_a_placeholder(x): ...


def documented_placeholder(x):
    """What to do here."""
    ...


def returns_the_placeholder(x):
    return ...


@pytest.mark.parametrize(
    "answer",
    [..., body_is_a_placeholder, documented_placeholder, returns_the_placeholder, (1, ...), {"a": ...}, [[...]]],
)
def test_a_placeholder_is_not_tried_and_its_conditions_do_not_run(answer, capsys):
    check.exercise("1", answer, (lambda x: 1 / 0, "never shown"))
    assert capsys.readouterr().out == "Exercise 1: not tried yet.\n"


@pytest.mark.parametrize("answer", [0, None, (), lambda x: None, lambda x: x + 1, [0]])
def test_other_answers_count_as_tried(answer, capsys):
    tried = not check.untouched(answer)
    is_empty_function = callable(answer) and answer(1) is None
    assert tried != is_empty_function


def test_the_first_failing_test_gives_the_hint(capsys):
    check.exercise("2", -2, POSITIVE, EVEN)
    check.exercise("2", 3, POSITIVE, EVEN)
    check.exercise("2", 4, POSITIVE, EVEN)
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 2: not yet. Hint: it must be positive",
        "Exercise 2: not yet. Hint: it must be even",
        "Exercise 2: solved.",
    ]


def test_an_answer_that_raises_does_not_stop_the_notebook(capsys):
    def half_done(x):
        y = ...
        return y + x

    check.exercise("3", half_done, (lambda f: f(1) == 2, "add them"))
    assert capsys.readouterr().out.startswith("Exercise 3: not yet. Your answer raised TypeError: ")


def test_an_exercise_without_a_test_is_a_mistake_of_the_author():
    with pytest.raises(UserError, match="no test"):
        check.exercise("4", 1)
