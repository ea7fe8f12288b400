"""A trial of two hidden policies, run pair by pair: look as often as you like, decide, and see who was fooled."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ilbook.errors import UserError
from ilbook.page import viz
from ilbook.page.live import is_live
from ilbook.page.media import Picture
from ilbook.stats.sequential.base import Decision, SequentialTest
from ilbook.stats.sequential.peeking import FIRST_LOOK, PeekingTest, fisher_p
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
    def truth(self) -> str:
        """The better policy, or "neither"."""
        a, b = self.rates
        return NEITHER if a == b else "A" if a > b else "B"

    @cached_property
    def p_values(self) -> np.ndarray:
        """Fisher's two-sided p-values after 0, 1, ..., n_max pairs (n_max + 1,); 1 before the first."""
        successes = self.outcomes.cumsum(axis=0).tolist()
        return np.array([1.0, *(fisher_p(t)[tuple(sums)] for t, sums in enumerate(successes, start=1))])

    def said(self, test: SequentialTest) -> tuple[str, Decision]:
        """What a sequential test makes of the same pairs, had one looked after each: its answer, and when."""
        decision = test.run(*self.outcomes.T)
        return {"first": "A", "second": "B", None: NEITHER}[decision.better], decision


@lru_cache(maxsize=4)
def sequential_tests(n_max: int, alpha: float) -> dict[str, SequentialTest]:
    """STEP and SAVI, both against either direction, so that "different" is wrong with probability alpha at most."""
    return {"STEP": synthesise(n_max, alpha, sides=2), "SAVI": SaviTest(alpha, sides=2, n_max=n_max)}


def draw(contest: Contest, tests: Mapping[str, SequentialTest]) -> Picture:
    """Outcomes above, p-values below: those that the reader saw, and after the answer all, with what the tests said."""
    viz.style()
    fig, (above, below) = plt.subplots(2, 1, figsize=(7.0, 4.2), sharex=True, height_ratios=(1, 2.6))
    for value, marker, role in ((1, "o", "target"), (0, "x", "failure")):
        pairs, rows = np.nonzero(contest.outcomes[: contest.shown] == value)
        above.scatter(pairs + 1, rows, s=16, marker=marker, color=viz.colour(role), linewidths=1.2)
    above.set_yticks([0, 1], ["A", "B"])
    above.set(ylim=(1.6, -0.6), title="Success (green dots) and failure (crosses) on the same starts")
    words = f"Outcomes of two policies on {contest.shown} common starts, and {len(contest.looks)} of Fisher's p-values."
    drawn = np.maximum(contest.p_values, SMALLEST_P)
    if contest.answer is not None:
        below.plot(np.arange(1, len(drawn)), drawn[1:], color=viz.colour("method"))
        stopped = f"stopped here: {WORDS[contest.answer]}"
        below.axvline(contest.shown, color=viz.colour("failure"), linewidth=1.4, label=stopped)
        said = []
        for (name, test), line in zip(tests.items(), ("--", ":"), strict=True):
            answer, decision = contest.said(test)
            # Where a test never stops there is no line, only its name in the legend.
            place = np.nan if answer == NEITHER else decision.pairs
            said.append(f"{name}: {WORDS[answer]}")
            below.axvline(place, color=viz.INK, linestyle=line, label=said[-1])
        fig.legend(loc="outside lower center", ncols=3)
        words += (
            f" The trial was stopped after {contest.shown} pairs with the verdict: {WORDS[contest.answer]}. "
            f"Over all {len(contest.outcomes)} pairs the p-value is lowest at {contest.p_values.min():.3f} and ends at "
            f"{contest.p_values[-1]:.2f}. {'; '.join(said)}. True rates: {contest.rates[0]:g} and {contest.rates[1]:g}."
        )
    below.plot(contest.looks, drawn[contest.looks], "o", color=viz.colour("method"), markersize=4)
    below.axhline(contest.alpha, color=viz.colour("baseline"), linewidth=1.4)
    below.set(yscale="log", xlim=(0, len(drawn)), ylim=(SMALLEST_P, 1.5), xlabel="pairs", ylabel="Fisher's p")
    below.set_title(f"p-values that were looked at (dots), and the level {contest.alpha:g} (orange line)")
    return viz.picture(fig, words)


# -- the widget --------------------------------------------------------------------------------------------------------
class TrialDesk(ipw.VBox):
    """Buttons to run pairs, to peek and to decide; hidden rates and sequential tests appear after the verdict."""

    def __init__(self, n_max: int, alpha: float):
        self.n_max, self.alpha = n_max, alpha
        self.tests = sequential_tests(n_max, alpha)
        self.tally = {name: {"false": 0, "found": 0} for name in ("you", *self.tests)}
        self.trials = {"equal": 0, "different": 0}
        self._rng = np.random.default_rng(0)
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
        contest = self.contest
        contest.shown = min(contest.shown + pairs, self.n_max)
        a, b = contest.outcomes[: contest.shown].sum(axis=0)
        self._show(f"{contest.shown} pairs: A succeeded {a} times, B {b} times.")

    def _peek(self) -> None:
        contest = self.contest
        contest.looks = sorted({*contest.looks, contest.shown})
        p = contest.p_values[contest.shown]
        verdict = "below the level" if p <= self.alpha else "not below the level"
        self._show(f"After {contest.shown} pairs Fisher's p is {p:.3f}, {verdict} of {self.alpha:g}.")

    def _decide(self, answer: str) -> None:
        contest = self.contest
        if contest.answer is None:
            contest.answer = answer
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
        self.run_one.disabled = self.run_five.disabled = over or self.contest.shown == self.n_max
        for button in (self.peek, *self.verdicts.values()):
            button.disabled = over or self.contest.shown == 0
        self.next.disabled = not over
        self.status.value = f"<b>{html.escape(words)}</b>"
        self._picture.value = draw(self.contest, self.tests)._repr_html_()
        heads = (f"after {sum(self.trials.values())} trials", "false claims")
        heads = (*heads, f"differences found (of {self.trials['different']})")
        rows = pd.DataFrame([(name, *counts.values()) for name, counts in self.tally.items()], columns=heads)
        self.score.value = rows.to_html(index=False, border=0)


def sequential_trial(n_max: int = 50, alpha: float = 0.05, *, live: bool | None = None) -> TrialDesk | Picture:
    """Run trials of two hidden policies pair by pair, peek, decide, and compare yourself with STEP and SAVI.

    In JupyterLab a `TrialDesk`. Without a reader (a page, papermill; `live=None` finds out) a picture of one trial.
    """
    if is_live() if live is None else live:
        return TrialDesk(n_max, alpha)
    return recorded(n_max, alpha)


def recorded(n_max: int, alpha: float) -> Picture:
    """A trial of two policies with equal rates in which whoever peeks is fooled, and the sequential tests are not."""
    habit, tests, rng = PeekingTest(fisher_p, n_max, alpha), sequential_tests(n_max, alpha), np.random.default_rng(0)
    for _ in range(MOST_TRIED):
        contest = Contest.drawn((0.5, 0.5), n_max, alpha, rng)
        answer, decision = contest.said(habit)
        fooled = answer != NEITHER and contest.p_values[-1] > 4 * alpha
        if fooled and all(contest.said(test)[0] == NEITHER for test in tests.values()):
            break
    else:
        raise UserError(f"none of {MOST_TRIED} trials of {n_max} pairs fools at level {alpha}; use more pairs")
    contest.shown, contest.looks = decision.pairs, list(range(FIRST_LOOK, decision.pairs + 1))
    contest.answer = answer
    shown = draw(contest, tests)
    title = (
        "A recorded trial of two policies that are equally good, chosen because it fools: with a look after every pair "
        f"one stops after {contest.shown}. In JupyterLab, this cell lets you run such trials yourself."
    )
    return Picture(shown.data, shown.alt, title, shown.width)
