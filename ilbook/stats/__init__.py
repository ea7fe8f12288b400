"""What every page uses: estimates with intervals, and the rule for verdicts; the rest is imported by module."""

from ilbook.stats.estimate import VERDICTS, Estimate, smallest_visible, verdict
from ilbook.stats.intervals import clopper_pearson, jeffreys, wilson
from ilbook.stats.modes import mode_entropy
from ilbook.stats.paired import evaluation_bootstrap, from_table, nested_bootstrap, paired_bootstrap, seed_t

__all__ = [
    "VERDICTS", "Estimate", "clopper_pearson", "evaluation_bootstrap", "from_table", "jeffreys", "mode_entropy",
    "nested_bootstrap", "paired_bootstrap", "seed_t", "smallest_visible", "verdict", "wilson",
]  # fmt: skip
