"""Estimates with intervals, and the rule that turns an interval into a verdict.

Here stands what every page uses. The rest is imported by module, `from ilbook.stats import peeking, power, several`,
so that work on a sequential test does not make the published results of all other pages stale.
"""

from ilbook.stats.bootstrap import BOOTSTRAP_SEED
from ilbook.stats.estimate import VERDICTS, Estimate, verdict
from ilbook.stats.intervals import clopper_pearson, jeffreys, wilson
from ilbook.stats.modes import mode_entropy
from ilbook.stats.paired import PAIR, evaluation_bootstrap, from_table, nested_bootstrap, paired_bootstrap, seed_t

__all__ = [
    "BOOTSTRAP_SEED",
    "PAIR",
    "VERDICTS",
    "Estimate",
    "clopper_pearson",
    "evaluation_bootstrap",
    "from_table",
    "jeffreys",
    "mode_entropy",
    "nested_bootstrap",
    "paired_bootstrap",
    "seed_t",
    "verdict",
    "wilson",
]
