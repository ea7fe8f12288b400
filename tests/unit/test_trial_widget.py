"""The trial of two hidden policies: what a reader sees, what is counted, and the picture on the page."""

import re

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.page import media
from ilbook.stats.sequential.peeking import fisher_p
from ilbook.teleop import trial as widgets_trial
from ilbook.teleop.trial import NEITHER, Contest, TrialDesk, sequential_tests, sequential_trial

N_MAX, ALPHA = 20, 0.05


def contest(first, second, rates=(0.5, 0.5)):
    return Contest(rates, np.array([first, second]).T, ALPHA)


def text(button_or_html):
    return re.sub("<[^>]*>", "", button_or_html.value)


@pytest.fixture(scope="module")
def shared():
    return TrialDesk(N_MAX, ALPHA)


@pytest.fixture
def desk(shared):
    """A widget before a new trial whose outcomes are known: B succeeds always and A never."""
    for counts in shared.tally.values():
        counts.update(false=0, found=0)
    shared.trials.update(equal=0, different=0)
    shared._begin()
    shared.contest = contest([0] * N_MAX, [1] * N_MAX)
    return shared


# -- the contest -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("rates", "truth"), [((0.5, 0.5), NEITHER), ((0.7, 0.4), "A"), ((0.4, 0.7), "B")])
def test_the_truth_is_in_the_rates(rates, truth):
    trial = Contest.drawn(rates, 4000, ALPHA, np.random.default_rng(0))
    assert trial.truth == truth
    assert trial.outcomes.mean(axis=0) == pytest.approx(rates, abs=0.03)
    assert abs(np.corrcoef(trial.outcomes.T)[0, 1]) < 0.05


def test_sequential_tests_see_every_pair_of_the_plan():
    tests = sequential_tests(N_MAX, ALPHA)
    trial = contest([0] * N_MAX, [1] * N_MAX)
    for test in tests.values():
        answer, decision = trial.said(test)
        assert answer == "B" and decision.pairs < N_MAX
        assert contest([0, 1] * 10, [1, 0] * 10).said(test)[0] == NEITHER


# -- the widget, without a browser -------------------------------------------------------------------------------------
def test_nothing_is_given_away_before_the_verdict(desk):
    desk.run_five.click()
    desk.peek.click()
    assert "5 pairs" in text(desk.status) and f"{fisher_p(5)[0, 5]:.3f}" in text(desk.status)
    desk.peek.click()
    assert desk.contest.looks == [5], "a second look at the same pairs is none"
    assert "True rates" not in desk._picture.value and "STEP" not in desk._picture.value
    assert desk.next.disabled and not desk.verdicts["A"].disabled
    desk.verdicts["B"].click()
    assert "The true rates are 0.5 and 0.5: no difference. You said: B is better." in text(desk.status)
    assert "True rates: 0.5 and 0.5" in desk._picture.value and "STEP: B is better" in desk._picture.value
    assert desk.run_one.disabled and desk.peek.disabled and desk.verdicts["A"].disabled and not desk.next.disabled


def test_false_claims_and_differences_found_are_counted(desk):
    desk.run_one.click()
    desk.verdicts["B"].click()  # equal rates: false; the tests are fooled too by these outcomes
    assert desk.tally == {name: {"false": 1, "found": 0} for name in ("you", "STEP", "SAVI")}
    desk.next.click()
    desk.contest = contest([0] * N_MAX, [1] * N_MAX, rates=(0.4, 0.7))
    desk.run_five.click()
    desk.verdicts[NEITHER].click()
    desk.verdicts["A"].click()  # too late
    assert desk.tally["you"] == {"false": 1, "found": 0} and desk.tally["STEP"] == {"false": 1, "found": 1}
    assert desk.trials == {"equal": 1, "different": 1}
    assert "after 2 trials" in desk.score.value and "(of 1)" in desk.score.value


def test_the_plan_ends_and_a_new_trial_begins(desk):
    for _ in range(N_MAX // 5):
        desk.run_five.click()
    assert desk.run_five.disabled and desk.run_one.disabled and not desk.peek.disabled
    desk.verdicts[NEITHER].click()
    desk.next.click()
    assert desk.contest.shown == 0 and not desk.run_one.disabled and desk.peek.disabled and desk.verdicts["A"].disabled


def test_in_half_of_the_trials_there_is_no_difference(desk):
    equal = []
    for _ in range(60):
        desk._begin()
        equal.append(desk.contest.truth == NEITHER)
    assert 0.25 < np.mean(equal) < 0.75


# -- without a reader --------------------------------------------------------------------------------------------------
def test_the_page_shows_a_trial_that_fools_with_a_description(monkeypatch):
    for name in ("ILBOOK_OUT", "JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)
    shown = sequential_trial(N_MAX, ALPHA)
    assert isinstance(shown, media.Picture)
    assert "chosen because it fools" in shown.title and "True rates: 0.5 and 0.5" in shown.alt
    assert "STEP: not separated; SAVI: not separated" in shown.alt and "is better" in shown.alt
    assert sequential_trial(N_MAX, ALPHA).data == shown.data
    assert isinstance(sequential_trial(N_MAX, ALPHA, live=True), TrialDesk)


def test_a_level_that_fools_nobody_is_said(monkeypatch):
    monkeypatch.setattr(widgets_trial, "MOST_TRIED", 3)
    with pytest.raises(UserError, match="none of 3 trials of 8 pairs fools"):
        widgets_trial.recorded(8, 0.001)
