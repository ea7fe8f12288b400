"""A trial of two hidden policies, run pair by pair: look as often as you like, decide, and see who was fooled."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ilbook.errors import UserError
from ilbook.page import viz
from ilbook.page.live import is_live
from ilbook.page.media import Picture
from ilbook.stats.sequential.base import Decision, SequentialTest
from ilbook.stats.sequential.peeking import FIRST_LOOK, fisher_p
from ilbook.stats.sequential.savi import SaviTest
from ilbook.stats.sequential.step import synthesise

WORLDS = ((0.5, 0.5), (0.5, 0.5), (0.4, 0.7), (0.7, 0.4))  # rates of A and B; in half of the trials they are equal
NEITHER = "neither"
WORDS = {"A": "A is better", "B": "B is better", NEITHER: "not separated"}
SMALLEST_P = 1e-3  # lower end of the axis; smaller ones are drawn there
MOST_TRIED = 10_000  # trials among which the page looks for one that fools


@dataclass
class Contest:
    """Policies A and B on a list of starts: all outcomes are drawn in advance, and shown pair by pair."""

    rates: tuple[float, float]  # of A and of B; hidden until an answer is given
    outcomes: np.ndarray  # (n_max, 2) of 0 and 1
    alpha: float
    shown: int = 0  # pairs so far
    looks: list[int] = field(default_factory=list)  # pairs after which the reader saw a p-value
    answer: str | None = None  # "A", "B" or "neither"

    @classmethod
    def drawn(cls, rates: tuple[float, float], n_max: int, alpha: float, rng: np.random.Generator) -> Contest:
        """A contest of policies that succeed with these rates, independently."""
        return cls(rates, (rng.random((n_max, 2)) < rates).astype(int), alpha)

    @property
    def n_max(self) -> int:
        """Pairs that were planned."""
        return len(self.outcomes)

    @property
    def truth(self) -> str:
        """The better policy, or "neither"."""
        a, b = self.rates
        return NEITHER if a == b else "A" if a > b else "B"

    def go(self, pairs: int) -> None:
        """Run some pairs more, as far as the plan goes."""
        if self.answer is None:
            self.shown = min(self.shown + pairs, self.n_max)

    def p_value(self, pairs: int) -> float:
        """Fisher's two-sided p-value after so many pairs; 1 before the first."""
        return float(fisher_p(pairs)[tuple(self.outcomes[:pairs].sum(axis=0))]) if pairs else 1.0

    def peek(self) -> float:
        """The p-value now; this look is remembered."""
        if self.shown and self.answer is None and self.shown not in self.looks:
            self.looks.append(self.shown)
        return self.p_value(self.shown)

    def decide(self, answer: str) -> None:
        """The reader's verdict; it ends the trial."""
        if answer not in ("A", "B", NEITHER):
            raise UserError(f"answer {answer!r} is none of A, B and {NEITHER}")
        self.answer = self.answer or answer

    def said(self, test: SequentialTest) -> tuple[str, Decision]:
        """What a sequential test makes of the same pairs, had one looked after each: its answer, and when."""
        decision = test.run(*self.outcomes.T)
        return {"first": "A", "second": "B", None: NEITHER}[decision.better], decision


def naive(contest: Contest) -> None:
    """Play a contest by the habit: look after every pair, and stop as soon as p is small."""
    while contest.shown < contest.n_max:
        contest.go(1)
        if contest.shown >= FIRST_LOOK and contest.peek() <= contest.alpha:
            a, b = contest.outcomes[: contest.shown].sum(axis=0)
            contest.decide("A" if a > b else "B")
            return
    contest.decide(NEITHER)


@lru_cache(maxsize=4)
def sequential_tests(n_max: int, alpha: float) -> dict[str, SequentialTest]:
    """STEP and SAVI, both against either direction, so that "different" is wrong with probability alpha at most."""
    return {"STEP": synthesise(n_max, alpha, sides=2), "SAVI": SaviTest(alpha, sides=2, n_max=n_max)}


def draw(contest: Contest, tests: Mapping[str, SequentialTest]) -> Picture:
    """Outcomes above, p-values below: those that the reader saw, and after the answer all, with what the tests said."""
    viz.style()
    fig, (above, below) = plt.subplots(2, 1, figsize=(7.0, 4.2), sharex=True, height_ratios=(1, 2.6))
    at = np.arange(1, contest.shown + 1)
    for row, outcomes in enumerate(contest.outcomes[: contest.shown].T):
        for value, marker, role in ((1, "o", "target"), (0, "x", "failure")):
            chosen = at[outcomes == value]
            above.scatter(chosen, 0 * chosen + row, s=16, marker=marker, color=viz.colour(role), linewidths=1.2)
    above.set_yticks([0, 1], ["A", "B"])
    above.set(ylim=(1.6, -0.6), title="Success (green dots) and failure (crosses) on the same starts")
    over = contest.answer is not None
    pairs = np.arange(1, contest.n_max + 1)
    if over:
        below.plot(pairs, [_drawn(contest, t) for t in pairs], color=viz.colour("method"))
        below.axvline(
            contest.shown, color=viz.colour("failure"), linewidth=1.4, label=f"stopped here: {WORDS[contest.answer]}"
        )
        for (name, test), line in zip(tests.items(), ("--", ":"), strict=True):
            answer, decision = contest.said(test)
            # Where a test never stops there is no line, only its name in the legend.
            place = np.nan if answer == NEITHER else decision.pairs
            below.axvline(place, color=viz.INK, linestyle=line, label=f"{name}: {WORDS[answer]}")
        fig.legend(loc="outside lower center", ncols=3)
    seen = [_drawn(contest, t) for t in contest.looks]
    below.plot(contest.looks, seen, "o", color=viz.colour("method"), markersize=4)
    below.axhline(contest.alpha, color=viz.colour("baseline"), linewidth=1.4)
    below.set(yscale="log", xlim=(0, contest.n_max + 1), ylim=(SMALLEST_P, 1.5), xlabel="pairs", ylabel="Fisher's p")
    below.set_title(f"p-values that were looked at (dots), and the level {contest.alpha:g} (orange line)")
    return viz.picture(fig, _described(contest, tests))


def _drawn(contest: Contest, pairs: int) -> float:
    return max(contest.p_value(pairs), SMALLEST_P)


def _described(contest: Contest, tests: Mapping[str, SequentialTest]) -> str:
    words = f"Outcomes of two policies on {contest.shown} common starts, and {len(contest.looks)} of Fisher's p-values."
    if contest.answer is None:
        return words
    lowest = min(contest.p_value(t) for t in range(1, contest.n_max + 1))
    said = "; ".join(f"{name}: {WORDS[contest.said(test)[0]]}" for name, test in tests.items())
    return (
        f"{words} The trial was stopped after {contest.shown} pairs with the verdict: {WORDS[contest.answer]}. "
        f"Over all {contest.n_max} pairs the p-value is lowest at {lowest:.3f} and ends at "
        f"{contest.p_value(contest.n_max):.2f}. {said}. True rates: {contest.rates[0]:g} and {contest.rates[1]:g}."
    )


# -- the widget --------------------------------------------------------------------------------------------------------
class TrialDesk(ipw.VBox):
    """Buttons to run pairs, to peek and to decide; hidden rates and sequential tests appear after the verdict."""

    def __init__(self, n_max: int = 50, alpha: float = 0.05, seed: int = 0):
        self.n_max, self.alpha = n_max, alpha
        self.tests = sequential_tests(n_max, alpha)
        self.tally = {name: {"false": 0, "found": 0} for name in ("you", *self.tests)}
        self.trials = {"equal": 0, "different": 0}
        self._rng = np.random.default_rng(seed)
        self._picture, self.status, self.score = ipw.HTML(), ipw.HTML(), ipw.HTML()
        self.run_one = self._button("Run a pair", "", lambda: self._run(1))
        self.run_five = self._button("Run five pairs", "", lambda: self._run(5))
        self.peek = self._button("Peek: Fisher's test", "info", self._peek)
        self.verdicts = {
            answer: self._button(words, "primary", lambda answer=answer: self._decide(answer))
            for answer, words in WORDS.items()
        }
        self.next = self._button("Next trial", "", self._begin)
        super().__init__([
            ipw.HBox([self.run_one, self.run_five, self.peek]),
            ipw.HBox([*self.verdicts.values(), self.next]),
            self.status,
            self._picture,
            self.score,
        ])  # fmt: skip
        self.add_class("ilbook-trial")
        self._begin()

    def _button(self, words: str, style: str, action: Callable[[], None]) -> ipw.Button:
        button = ipw.Button(description=words, button_style=style, layout={"width": "auto"})
        button.on_click(lambda _: action())
        return button

    def _begin(self) -> None:
        rates = WORLDS[self._rng.integers(len(WORLDS))]
        self.contest = Contest.drawn(rates, self.n_max, self.alpha, self._rng)
        self._show(f"Two policies, hidden rates. You planned at most {self.n_max} pairs. Is one of them better?")

    def _run(self, pairs: int) -> None:
        self.contest.go(pairs)
        a, b = self.contest.outcomes[: self.contest.shown].sum(axis=0)
        self._show(f"{self.contest.shown} pairs: A succeeded {a} times, B {b} times.")

    def _peek(self) -> None:
        p = self.contest.peek()
        verdict = "below the level" if p <= self.alpha else "not below the level"
        self._show(f"After {self.contest.shown} pairs Fisher's p is {p:.3f}, {verdict} of {self.alpha:g}.")

    def _decide(self, answer: str) -> None:
        contest = self.contest
        if contest.answer is None:
            contest.decide(answer)
            self.trials["equal" if contest.truth == NEITHER else "different"] += 1
            answers = {"you": answer, **{name: contest.said(test)[0] for name, test in self.tests.items()}}
            for name, given in answers.items():
                self.tally[name]["false"] += given not in (NEITHER, contest.truth)
                self.tally[name]["found"] += given == contest.truth != NEITHER
        a, b = contest.rates
        truth = "no difference" if contest.truth == NEITHER else f"{contest.truth} is better"
        self._show(f"The true rates are {a:g} and {b:g}: {truth}. You said: {WORDS[contest.answer]}.")

    def _show(self, words: str) -> None:
        over = self.contest.answer is not None
        full = self.contest.shown == self.n_max
        for button in (self.run_one, self.run_five):
            button.disabled = over or full
        self.peek.disabled = over or self.contest.shown == 0
        for button in self.verdicts.values():
            button.disabled = over or self.contest.shown == 0
        self.next.disabled = not over
        self.status.value = f"<b>{html.escape(words)}</b>"
        self._picture.value = draw(self.contest, self.tests)._repr_html_()
        self.score.value = self._scores()

    def _scores(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{counts['false']}</td><td>{counts['found']}</td></tr>"
            for name, counts in self.tally.items()
        )
        return (
            f"<table><tr><th>after {sum(self.trials.values())} trials</th><th>false claims</th>"
            f"<th>differences found (of {self.trials['different']})</th></tr>{rows}</table>"
        )


def sequential_trial(
    n_max: int = 50, alpha: float = 0.05, *, seed: int = 0, live: bool | None = None
) -> TrialDesk | Picture:
    """Run trials of two hidden policies pair by pair, peek, decide, and compare yourself with STEP and SAVI.

    In JupyterLab a `TrialDesk`. Without a reader (a page, papermill; `live=None` finds out) a picture of one trial.
    """
    if is_live() if live is None else live:
        return TrialDesk(n_max, alpha, seed)
    return recorded(n_max, alpha, seed)


def recorded(n_max: int = 50, alpha: float = 0.05, seed: int = 0) -> Picture:
    """A trial of two policies with equal rates in which whoever peeks is fooled, and the sequential tests are not."""
    tests, rng = sequential_tests(n_max, alpha), np.random.default_rng(seed)
    for _ in range(MOST_TRIED):
        contest = Contest.drawn((0.5, 0.5), n_max, alpha, rng)
        naive(contest)
        fooled = contest.answer != NEITHER and contest.p_value(n_max) > 4 * alpha
        if fooled and all(contest.said(test)[0] == NEITHER for test in tests.values()):
            break
    else:
        raise UserError(f"none of {MOST_TRIED} trials of {n_max} pairs fools at level {alpha}; use more pairs")
    shown = draw(contest, tests)
    title = (
        "A recorded trial of two policies that are equally good, chosen because it fools: with a look after every pair "
        f"one stops after {contest.shown}. In JupyterLab, this cell lets you run such trials yourself."
    )
    return Picture(shown.png, shown.alt, title, shown.width)
