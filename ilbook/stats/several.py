"""More than two policies: corrected p-values, all pairs at once, and letters for what was not told apart."""

import string
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from ilbook import used
from ilbook.errors import UserError, unknown
from ilbook.stats.estimate import check_alpha
from ilbook.stats.paired import by_start
from ilbook.stats.pairs import mcnemar


def adjusted(p_values: Sequence[float], method: str = "bonferroni") -> np.ndarray:
    """Adjusted p-values (K,): those at most alpha are together wrong with probability alpha at most.

    `method` is one of statsmodels' multipletests: "holm" (1979) promises the same and is never larger.
    """
    used.note("stats.several")
    p = np.asarray(p_values, dtype=float).reshape(-1)
    if p.size == 0 or not ((p >= 0) & (p <= 1)).all():  # NaN is refused too
        raise UserError(f"{list(p_values)} are no p-values; give at least one number, all between 0 and 1")
    return multipletests(p, method=method)[1]


def compare_all(table: pd.DataFrame, metric: str, alpha: float = 0.05) -> pd.DataFrame:
    """Every pair of policies on common starts by McNemar's test: first, second, effect, p, adjusted, different.

    Best policies first. `table` as for the paired bootstrap, of one training: three on 100 starts are not 300 trials.
    """
    used.note("stats.several")
    check_alpha(alpha)
    if "policy" not in table.columns or table["policy"].nunique() < 2:
        raise UserError("there are not two policies to compare; give the rows of at least two in a column `policy`")
    names = list(dict.fromkeys(table["policy"]))
    values = {name: by_start(table, name, metric, like=names[0]).to_numpy() for name in names}
    if len(values[names[0]]) > 1:
        why = "a test takes episodes for independent, and one start under several training seeds is not"
        raise UserError(f"{why}; give the rows of one training seed, or take paired_bootstrap for each pair")
    pairs = list(combinations(sorted(names, key=lambda name: -values[name].mean()), 2))
    tests = [mcnemar(values[first][0], values[second][0]) for first, second in pairs]
    found = pd.DataFrame(pairs, columns=["first", "second"])
    found = found.assign(effect=[test.effect for test in tests], p=[test.p for test in tests])
    found["adjusted"] = adjusted(found["p"])
    return found.assign(different=found["adjusted"] <= alpha)


def letters_of(pairs: pd.DataFrame, means: Mapping[str, float]) -> dict[str, str]:
    """Compact letter display: policies that share a letter are not told apart. The best policy gets an a.

    `pairs` has columns first, second, different; pairs that it lacks count as not different. Insert and absorb (Piepho
    2004): one column with all; each different pair splits the columns that hold both; columns within another one go.
    """
    used.note("stats.several")
    if not means or not np.isfinite(list(means.values())).all():
        raise UserError("letters need at least one policy and a finite mean of each; look for NaN in the table")
    for name in (*pairs["first"], *pairs["second"]):
        if name not in means:
            raise unknown("policy", name, map(str, means))
    columns = {frozenset(means)}
    for pair in pairs.loc[pairs["different"].astype(bool), ["first", "second"]].itertuples(index=False):
        split = {column - {gone} for column in columns for gone in (pair if column.issuperset(pair) else (None,))}
        columns = {column for column in split if not any(column < other for other in split)}
    # Ranks from best to worst: the column that reaches highest comes first, and then the one that reaches lower.
    rank = {name: place for place, name in enumerate(sorted(means, key=lambda name: -means[name]))}
    ordered = sorted(columns, key=lambda column: sorted(rank[name] for name in column))
    return {
        name: "".join(letter for letter, column in zip(string.ascii_letters, ordered, strict=False) if name in column)
        for name in means
    }
