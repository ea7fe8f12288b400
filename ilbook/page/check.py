"""Guesses before results, questions about ideas, and checks of exercises: what asks the reader something.

Before a reader in Jupyter they are buttons, on the published page fold-outs of plain HTML, readable by keyboard and
screen reader. No answer to an exercise stops the notebook, and a hint is never the solution.
"""

import dis
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from string import ascii_lowercase
from types import FunctionType

import ipywidgets as ipw
from IPython.display import HTML, display

from ilbook.errors import UserError
from ilbook.page.live import is_live

Test = tuple[Callable[[object], object], str]  # what must be true of the answer, and the hint for when it is not
Choice = tuple[str, bool, str]  # a text, whether it is right, and why (not)

PLACEHOLDER = {"RESUME", "NOP", "RETURN_VALUE", None, ...}  # operations and constants of `def f(x): ...`
FEWEST_CHOICES = 3  # with two, whoever does not know is right half of the time
VERDICT = {True: "Right.", False: "Not so."}


# -- guesses -----------------------------------------------------------------------------------------------------------
@dataclass
class _Guess:
    question: str
    options: tuple[str, ...]
    chosen: int | None = None  # by a reader in Jupyter
    tell: Callable[[], None] | None = None  # shows what came out; there once the result is


_guesses: dict[str, _Guess] = {}


def predict(id: str, question: str, options: Sequence[str]) -> None:
    """Ask what will come out, before the cell that shows it; `outcome` with the same id answers below that cell."""
    _distinct(f"prediction {id!r}", options, 2)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id):
        raise UserError(f"prediction id {id!r} cannot be a name on the page; use lower-case words with hyphens")
    guess = _guesses[id] = _Guess(question, tuple(options))
    head = f"<strong>Guess first.</strong> {_text(question)}"
    if not is_live():
        before = f'<label style="display:block"><input type="radio" name="guess-{id}"> '
        radios = "".join(f"{before}{_text(option)}</label>" for option in options)
        fields = f'<fieldset aria-label="Your guess" style="border:0">{radios}</fieldset>'
        display(HTML(f"<details open><summary>{head}</summary>{fields}</details>"))
        return

    def choose(chosen: int) -> None:
        guess.chosen = chosen
        for number, button in enumerate(buttons):
            button.button_style = "info" if number == chosen else ""
            button.disabled = guess.tell is not None  # who has seen the answer no longer guesses
        if guess.tell:
            guess.tell()

    box, buttons = _buttons(head, options, choose)
    display(box)


def outcome(id: str, answer: str | int, why: str) -> None:
    """Show guess and outcome together: `answer` is one of the options or its number, from the results; `why` explains.

    A reader in Jupyter who has not guessed yet is asked to do so first; on the page the answer is folded.
    """
    if id not in _guesses:
        raise UserError(f"there is no prediction {id!r}; run the cell with check.predict({id!r}, ...) before this one")
    guess = _guesses[id]
    number, last = guess.options.index(answer) if answer in guess.options else answer, len(guess.options) - 1
    if not isinstance(number, Integral) or isinstance(answer, bool) or not 0 <= number <= last:
        raise UserError(f"the outcome of {id!r} is {answer!r}; give one of its options, or its number from 0 to {last}")
    head = f"<strong>What came out.</strong> {_text(guess.question)}"
    if not is_live():
        display(HTML(f"<details><summary>{head}</summary>{_compared(guess, number, why)}</details>"))
        return
    shown = ipw.HTML()

    def tell() -> None:
        wait = "<p>Guess first, above; then what came out stands here.</p>"
        said = wait if guess.chosen is None else head + _compared(guess, number, why)
        shown.value = f'<div role="status">{said}</div>'

    guess.tell = tell
    tell()
    display(shown)


def _compared(guess: _Guess, answer: int, why: str) -> str:
    """The options, marked with the reader's guess and with what came out, and why."""
    items = ""
    for number, option in enumerate(guess.options):
        marks = [mark for mark, of in (("your guess", guess.chosen), ("this came out", answer)) if of == number]
        words = f"<strong>{_text(option)}</strong> ({', '.join(marks)})" if marks else _text(option)
        items += f"<li>{words}</li>"
    return f"<ul>{items}</ul><p>{_text(why)}</p>"


# -- questions ---------------------------------------------------------------------------------------------------------
def concept(question: str, choices: Sequence[Choice]) -> None:
    """A question about an idea: choices (text, whether it is right, why), one misconception each, all explained.

    UserError for fewer than three choices, none that is right, one without a reason, or a text that stands twice.
    """
    texts = [text for text, _, _ in choices]
    _distinct(f"question {question!r}", texts, FEWEST_CHOICES)
    if not any(right for _, right, _ in choices):
        raise UserError(f"question {question!r} has no right choice; mark one with True")
    for text, _, reason in choices:
        if not reason.strip():
            raise UserError(f"choice {text!r} of question {question!r} has no reason; say why it is right or wrong")
    reasons = [f"<strong>{VERDICT[bool(right)]}</strong> {_text(reason)}" for _, right, reason in choices]
    head = f"<strong>Question.</strong> {_text(question)}"
    if not is_live():
        fold = "<details><summary>{}</summary><p>{}</p></details>"
        folds = "".join(map(fold.format, map(_text, texts), reasons))
        page = f"<p>{head} Open what you believe.</p>{folds}"
        display(HTML(f'<div role="group" aria-label="A question">{page}</div>'))
        return
    feedback = ipw.HTML()

    def choose(chosen: int) -> None:
        buttons[chosen].button_style = "success" if choices[chosen][1] else "danger"
        feedback.value = f'<p role="status">({buttons[chosen].description}) {reasons[chosen]}</p>'

    box, buttons = _buttons(head, texts, choose)
    display(ipw.VBox([box, feedback]))


# -- how they are shown ------------------------------------------------------------------------------------------------
def _buttons(head: str, texts: Sequence[str], choose: Callable[[int], None]) -> tuple[ipw.VBox, list[ipw.Button]]:
    """A row for each text, with a button before it; a button's own label would not wrap."""
    rows = []
    for number, text in enumerate(texts):
        button = ipw.Button(description=ascii_lowercase[number], tooltip=text, layout={"width": "3em"})
        button.on_click(lambda _, number=number: choose(number))
        rows.append(ipw.HBox([button, ipw.HTML(_text(text))]))
    return ipw.VBox([ipw.HTML(head), *rows]), [row.children[0] for row in rows]


def _text(text: str) -> str:
    """Words as HTML; `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(" ".join(text.split())))


def _distinct(where: str, texts: Sequence[str], fewest: int) -> None:
    if len(texts) < fewest:
        raise UserError(f"{where} has {len(texts)} choices; give at least {fewest}")
    for text in texts:
        if list(texts).count(text) > 1:
            raise UserError(f"{where} has the choice {text!r} twice; reword one of them")


# -- exercises ---------------------------------------------------------------------------------------------------------
def exercise(name: str, answer: object, *tests: Test) -> None:
    """Print whether `answer` passes all tests (condition, hint), in order; else the hint of the first it fails.

    A condition is a function of the answer: a property, or a value made anew, so that no solution is written down.
    """
    if not tests:
        raise UserError(f"exercise {name!r} has no test; give at least one pair (condition, hint)")
    print(f"Exercise {name}: {_outcome(answer, tests)}")


def untouched(answer: object) -> bool:
    """Whether the answer is still a placeholder: `...`, or a function with no other body."""
    if isinstance(answer, FunctionType):
        steps = dis.get_instructions(answer)
        return {step.argval if "CONST" in step.opname else step.opname for step in steps} <= PLACEHOLDER
    return answer is ...


def _outcome(answer: object, tests: tuple[Test, ...]) -> str:
    if untouched(answer):
        return "not tried yet."
    for condition, hint in tests:
        try:
            passed = bool(condition(answer))
        except Exception as error:  # the reader's own code runs in here, so anything may be raised
            return f"not yet. Your answer raised {type(error).__name__}: {error}. Hint: {hint}"
        if not passed:
            return f"not yet. Hint: {hint}"
    return "solved."
