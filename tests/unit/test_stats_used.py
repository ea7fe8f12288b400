"""Every statistic announces its part, also when it answers from memory."""

import numpy as np
import pandas as pd
import pytest

from ilbook import stats, used
from ilbook.stats import Estimate, intervals, pairs, posterior, power, ranking, selection, several
from ilbook.stats.sequential import peeking, savi, step
from ilbook.stats.sequential.base import CountTest

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    [(p, s, start, RNG.integers(2), RNG.integers(2)) for p in "ab" for s in range(2) for start in range(9)],
    columns=["policy", "train_seed", "start", "success", "mode"],
)
ONE = TABLE[TABLE.train_seed == 0]
JUDGED = ONE.rename(columns={"policy": "checkpoint"})
GIVEN = Estimate(0.2, 0.1, 0.3, 10, 1, "given")
STEP = step.synthesise(8)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: Estimate(0.2, 0.1, 0.3, 10, 1, "given"), "estimate"),
        (lambda: stats.verdict(GIVEN, 0), "estimate"),
        (lambda: stats.smallest_visible(GIVEN), "estimate"),
        (lambda: stats.wilson(1, 2), "intervals estimate"),
        (lambda: stats.clopper_pearson(1, 2), "intervals estimate"),
        (lambda: stats.jeffreys(1, 2), "intervals estimate"),
        (lambda: intervals.stevens(1, 2, 0.5), "intervals"),
        (lambda: intervals.coverage(lambda s, n: GIVEN, 3, [0.5]), "intervals"),
        (lambda: intervals.binomial(3, 0.5), "intervals"),
        (lambda: stats.paired_bootstrap(TABLE, "a", "b", "success"), "paired bootstrap estimate"),
        (lambda: stats.evaluation_bootstrap(TABLE, "a", "b", "success"), "paired bootstrap estimate"),
        (lambda: stats.nested_bootstrap(TABLE, "a", "b", "success"), "paired bootstrap estimate"),
        (lambda: stats.seed_t(TABLE, "a", "b", "success"), "paired estimate"),
        (lambda: stats.from_table(TABLE, "a", None, "success"), "paired intervals estimate"),
        (lambda: stats.mode_entropy(TABLE, "a", 2), "modes paired bootstrap estimate"),
        (lambda: pairs.mcnemar([0, 1], [1, 1]), "pairs"),
        (lambda: pairs.barnard((1, 2), (2, 3)), "pairs"),
        (lambda: several.adjusted([0.1]), "several"),
        (lambda: several.compare_all(ONE, "success"), "several paired pairs"),
        (lambda: several.letters_of(pd.DataFrame(columns=["first", "second", "different"]), {"a": 1}), "several"),
        (lambda: posterior.Posterior(1, 2), "posterior"),
        (lambda: power.power_unpaired(0.4, 0.7, 9), "power"),
        (lambda: power.exact_power(0.4, 0.7, 9), "power intervals sequential.peeking"),
        (lambda: power.exact_power(0.4, 0.7, 9), "power intervals sequential.peeking"),
        (lambda: power.sample_size(0.4, 0.7), "power"),
        (lambda: power.sample_size_paired(0.4, 0.7), "power"),
        (lambda: power.discordant(0.4, 0.7, 0), "power"),
        (lambda: ranking.wrong_ranking([0.4, 0.7], 9), "ranking intervals"),
        (lambda: ranking.wrong_winner([0.4, 0.7], 9), "ranking intervals"),
        (lambda: selection.best_of([0.4, 0.7], 9), "selection intervals"),
        (lambda: selection.select_checkpoint(JUDGED, [0, 1], [2, 3]), "selection intervals estimate"),
        (lambda: peeking.PeekingTest(peeking.fisher_p, 8), "sequential.peeking sequential.base"),
        (lambda: peeking.fisher_p(3), "sequential.peeking"),
        (lambda: peeking.pooled_z_p(3), "sequential.peeking"),
        (lambda: peeking.barnard_p(3), "sequential.peeking intervals"),
        (lambda: CountTest(STEP.boundaries), "sequential.base"),
        (lambda: step.synthesise(8), "sequential.step sequential.base"),
        (lambda: step.worst_risk(STEP), "sequential.step"),
        (lambda: savi.SaviTest(), "sequential.savi sequential.base"),
        (lambda: savi.log_e([0, 1], [1, 1]), "sequential.savi"),
    ],
)
def test_what_is_called_announces_itself(call, parts):
    with used.collected() as noted:
        call()
    assert noted == {f"stats.{part}" for part in parts.split()}
