import random
from html.parser import HTMLParser

import numpy as np
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
    [..., body_is_a_placeholder, documented_placeholder, returns_the_placeholder],
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


# -- guesses and questions ---------------------------------------------------------------------------------------------
OPTIONS = ["more than `half` & all", "less"]
CHOICES = [
    ("It moves", False, "It does not."),
    ("It stands <still>", True, "It does."),
    ("It flies", False, "It has no wings."),
]


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, in order; no reader is there."""
    displayed = []
    monkeypatch.setattr(check, "display", displayed.append)
    monkeypatch.setattr(check, "is_live", lambda: False)
    check._guesses.clear()
    return displayed


@pytest.fixture
def live(shown, monkeypatch):
    """The same before a reader in Jupyter."""
    monkeypatch.setattr(check, "is_live", lambda: True)
    return shown


def ask(**given):
    check.predict("how-many", **{"question": "How many solve it?", "options": OPTIONS, **given})


class Reading(HTMLParser):
    """Tags that stay open, and the texts inside of one kind of tag."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts = [], {}
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag != "script" and not any(name.startswith("on") for name, _ in attrs)
        self.texts.setdefault(tag, []).append("")
        self.open += [tag] * (tag != "input")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.texts[tag][-1] += data


def test_without_a_reader_guess_and_outcome_are_fold_outs_of_plain_html(shown):
    ask()
    check.outcome("how-many", 1, "Because.")
    asked, told = (Reading(one._repr_html_()).texts for one in shown)
    assert asked["summary"] == ["Guess first. How many solve it?"]
    assert asked["label"] == [" more than half & all", " less"] and asked["code"] == ["half"]
    assert told["summary"] == ["What came out. How many solve it?"]
    assert told["li"] == ["more than half & all", "less (this came out)"] and told["p"] == ["Because."]
    assert "open" not in shown[1]._repr_html_()  # folded: whoever reads on has not been told


@pytest.mark.parametrize("answer", [0, np.int64(0), OPTIONS[0]])
def test_an_outcome_is_an_option_or_its_number(shown, answer):
    ask()
    check.outcome("how-many", answer, "Because.")
    assert "half & all (this came out)" in Reading(shown[1]._repr_html_()).texts["details"][0]


@pytest.mark.parametrize("answer", [2, -1, 0.0, True, np.True_, None, "more"])
def test_any_other_outcome_is_refused(shown, answer):
    ask()
    with pytest.raises(UserError, match="give one of its options, or its number from 0 to 1"):
        check.outcome("how-many", answer, "Because.")


def test_mistakes_in_a_prediction_are_said_in_a_sentence(shown):
    with pytest.raises(UserError, match="no prediction 'how-many'; run the cell"):
        check.outcome("how-many", 0, "Because.")
    with pytest.raises(UserError, match="has 1 choices; give at least 2"):
        ask(options=["all"])
    with pytest.raises(UserError, match="has the choice 'all' twice"):
        ask(options=["all", "all"])
    with pytest.raises(UserError, match="lower-case words with hyphens"):
        check.predict("How many", "How many?", OPTIONS)


def test_without_a_reader_every_choice_of_a_question_is_explained_in_its_fold_out(shown):
    check.concept("What does it do?", CHOICES)
    read = Reading(shown[0]._repr_html_()).texts
    assert read["summary"] == ["It moves", "It stands <still>", "It flies"]
    assert read["details"][:2] == ["It movesNot so. It does not.", "It stands <still>Right. It does."]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (CHOICES[:2], "has 2 choices; give at least 3"),
        ([(text, False, why) for text, _, why in CHOICES], "has no right choice"),
        ([*CHOICES[:2], ("It flies", False, " ")], "choice 'It flies' of question .* has no reason"),
        ([*CHOICES, CHOICES[0]], "has the choice 'It moves' twice"),
    ],
)
def test_mistakes_in_a_question_are_said_in_a_sentence(shown, choices, said):
    with pytest.raises(UserError, match=said):
        check.concept("What does it do?", choices)


def test_the_same_call_shows_the_same_bytes_and_takes_no_chance(shown):
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    for _ in range(2):
        ask()
        check.concept("What does it do?", CHOICES)
        check.outcome("how-many", 0, "Because.")
    assert [one._repr_html_() for one in shown[:3]] == [one._repr_html_() for one in shown[3:]]
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def buttons(box):
    return [row.children[0] for row in box.children[1:]]


def test_a_reader_guesses_with_a_button_and_sees_guess_and_outcome_together(live):
    ask()
    first, second = buttons(live[0])
    first.click()
    second.click()  # before the result one may change one's mind
    assert second.button_style == "info" and first.button_style == ""
    check.outcome("how-many", 0, "Because.")
    told = Reading(live[1].value).texts
    assert told["li"] == ["more than half & all (this came out)", "less (your guess)"] and told["p"] == ["Because."]


def test_a_reader_who_ran_all_cells_is_told_only_after_a_guess(live):
    ask()
    check.outcome("how-many", 0, "Because.")
    assert "Guess first" in live[1].value and "Because" not in live[1].value
    first, second = buttons(live[0])
    first.click()
    assert "(your guess, this came out)" in live[1].value
    assert first.disabled and second.disabled


def test_a_reader_sees_the_reason_of_the_choice_that_was_pressed(live):
    check.concept("What does it do?", CHOICES)
    box, feedback = live[0].children
    wrong, right, _ = buttons(box)
    wrong.click()
    assert (wrong.button_style, "(a)" in feedback.value) == ("danger", True)
    assert "Not so." in feedback.value and "It does not." in feedback.value and "wings" not in feedback.value
    right.click()
    assert right.button_style == "success" and "Right." in feedback.value
