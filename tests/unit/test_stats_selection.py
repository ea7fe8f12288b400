import numpy as np
import pandas as pd
import pytest

from ilbook.errors import UserError
from ilbook.stats.selection import best_of, select_checkpoint

VALIDATION, HELD_OUT = range(20), range(100, 140)


def table(rates=(0.5, 0.5, 0.5, 0.5, 0.5), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (step, start, int(rng.random() < rate)) for step, rate in enumerate(rates) for start in (*VALIDATION, *HELD_OUT)
    ]
    return pd.DataFrame(rows, columns=["checkpoint", "start", "success"])


def test_the_choice_and_its_report_come_from_different_starts():
    rows = table((0.1, 0.9, 0.2))
    found = select_checkpoint(rows, VALIDATION, HELD_OUT)
    mine = rows[rows.checkpoint == 1]
    assert found.checkpoint == 1
    assert found.validation.effect == mine[mine.start.isin(VALIDATION)].success.mean()
    assert found.held_out.effect == mine[mine.start.isin(HELD_OUT)].success.mean()
    assert (found.validation.n, found.held_out.n) == (20, 40)


def test_among_equals_the_first_is_taken():
    rows = table().assign(success=1)
    assert select_checkpoint(rows.iloc[::-1], VALIDATION, HELD_OUT).checkpoint == 4


def test_the_optimism_is_on_average_the_exact_one():
    found = [select_checkpoint(table(seed=seed), VALIDATION, HELD_OUT) for seed in range(150)]
    optimism = [one.validation.effect - one.held_out.effect for one in found]
    assert np.mean(optimism) == pytest.approx(best_of([0.5] * 5, 20) - 0.5, abs=0.03)


@pytest.mark.parametrize("rates", [[0.5] * 10, [0.2, 0.5, 0.55], [0.7]])
def test_best_of_many_is_what_simulation_shows(rates):
    counts = np.random.default_rng(0).binomial(20, rates, size=(100_000, len(rates)))
    assert best_of(rates, 20) == pytest.approx(counts.max(axis=1).mean() / 20, abs=0.002)


def test_best_of_one_is_honest_and_of_certain_ones_too():
    assert best_of([0.3], 10) == pytest.approx(0.3)
    assert best_of([1.0, 0.0], 10) == pytest.approx(1.0)


def test_held_out_starts_of_other_checkpoints_are_not_needed():
    rows = table((0.1, 0.9))
    assert select_checkpoint(rows[(rows.checkpoint == 1) | (rows.start < 100)], VALIDATION, HELD_OUT).checkpoint == 1


ROWS = table()


@pytest.mark.parametrize(
    ("rows", "validation", "held_out", "message"),
    [
        (ROWS, range(20), range(19, 40), "1 starts choose the checkpoint and report it too .19"),
        (ROWS, [], HELD_OUT, "no validation starts"),
        (ROWS, VALIDATION, [], "no held-out starts"),
        (ROWS, range(30), HELD_OUT, "was not run on start 20"),
        (pd.concat([ROWS, ROWS.iloc[:1]]), VALIDATION, HELD_OUT, "start 0 twice"),
        (ROWS.assign(success=np.nan), VALIDATION, HELD_OUT, "nan for episode"),
        (ROWS.assign(success=0.5), VALIDATION, HELD_OUT, "outcome 0.5"),
        (ROWS.drop(columns="checkpoint"), VALIDATION, HELD_OUT, "unknown table column 'checkpoint'"),
        (ROWS.assign(train_seed=ROWS.start % 2), VALIDATION, HELD_OUT, "several training seeds"),
        (ROWS.iloc[:0], VALIDATION, HELD_OUT, "no checkpoint"),
    ],
)
def test_refuses(rows, validation, held_out, message):
    with pytest.raises(UserError, match=message):
        select_checkpoint(rows, validation, held_out)


@pytest.mark.parametrize(
    ("rates", "n", "message"), [([], 10, "no checkpoint"), ([0.5], 0, "n is 0"), ([2], 5, "rate 2")]
)
def test_best_of_refuses(rates, n, message):
    with pytest.raises(UserError, match=message):
        best_of(rates, n)
