"""More than two policies: corrected p-values, all pairs at once, and letters for what was not told apart."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import Estimate, check_alpha, check_level
from ilbook.stats.paired import by_start, paired_bootstrap
from ilbook.stats.pairs import Comparison, mcnemar

if TYPE_CHECKING:
    import pandas as pd


def bonferroni(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (K,): those at most alpha are together wrong with probability alpha at most."""
    p = _p_values(p_values)
    return np.minimum(p * len(p), 1.0)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (K,) after Holm (1979): the same promise as Bonferroni's, and never larger."""
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def compare_all(
    table: pd.DataFrame,
    metric: str,
    alpha: float = 0.05,
    test: Callable[[Sequence[float], Sequence[float]], Comparison] = mcnemar,
    adjust: Callable[[Sequence[float]], np.ndarray] = bonferroni,
) -> pd.DataFrame:
    """Every pair of policies on common starts: first, second, effect, p, adjusted, different; best policies first.

    `table` as for the paired bootstrap, of one training seed: a test over episodes takes each for independent, and
    three seeds on 100 starts are not 300 trials. Use `compare_all_seeds` there.
    """
    import pandas as pd

    check_alpha(alpha)
    values = _values(table, metric)
    if len(next(iter(values.values()))) > 1:
        raise UserError(
            "a test over episodes takes them for independent, and the same start under several training seeds is not; "
            "give the rows of one training seed, or use compare_all_seeds"
        )
    pairs = list(combinations(values, 2))
    tests = [test(values[first][0], values[second][0]) for first, second in pairs]
    adjusted = adjust([result.p for result in tests])
    rows = [(*pair, result.effect, result.p) for pair, result in zip(pairs, tests, strict=True)]
    found = pd.DataFrame(rows, columns=["first", "second", "effect", "p"])
    return found.assign(adjusted=adjusted, different=adjusted <= alpha)


def compare_all_seeds(
    table: pd.DataFrame,
    metric: str,
    level: float = 0.95,
    interval: Callable[..., Estimate] = paired_bootstrap,
) -> pd.DataFrame:
    """Every pair of policies over training seeds and starts: first, second, effect, low, high, different.

    The intervals hold together with probability `level` (Bonferroni); policies differ if theirs excludes 0. For more
    than 5 policies hand over one with more than 2,000 replicates: its ends lie far out in the tails.
    """
    import pandas as pd

    check_level(level)
    pairs = list(combinations(_values(table, metric), 2))
    one_level = 1 - (1 - level) / len(pairs)
    made = [interval(table, first, second, metric, level=one_level) for first, second in pairs]
    rows = [
        (*pair, found.effect, found.low, found.high, found.low > 0 or found.high < 0)
        for pair, found in zip(pairs, made, strict=True)
    ]
    return pd.DataFrame(rows, columns=["first", "second", "effect", "low", "high", "different"])


def letters_of(pairs: pd.DataFrame, means: Mapping[str, float]) -> dict[str, str]:
    """The letters of each policy from a table with columns first, second, different; see `letters`."""
    index = {name: number for number, name in enumerate(means)}
    different = np.zeros((len(index), len(index)), dtype=bool)
    for first, second, apart in pairs[["first", "second", "different"]].itertuples(index=False):
        different[index[first], index[second]] = different[index[second], index[first]] = apart
    return letters(means, different)


def letters(means: Mapping[str, float], different: np.ndarray) -> dict[str, str]:
    """Compact letter display: policies that share a letter are not told apart. The best policy gets an a.

    `different` (K, K) says which pairs were told apart, in the order of `means`. Insert and absorb (Piepho 2004): one
    column with all; each different pair splits the columns that hold both; columns within another one go.
    """
    names = list(means)
    apart = np.asarray(different, dtype=bool)
    if apart.shape != (len(names), len(names)) or (apart != apart.T).any() or apart.diagonal().any():
        raise UserError(f"`different` must be a symmetric matrix for {len(names)} policies with False on its diagonal")
    if not names or not np.isfinite(list(means.values())).all():
        raise UserError("letters need at least one policy and a finite mean of each; look for NaN in the table")
    columns = [frozenset(range(len(names)))]
    for pair in zip(*np.nonzero(np.triu(apart)), strict=True):
        split = {
            part for column in columns for part in (_without(column, pair) if column.issuperset(pair) else (column,))
        }
        columns = [column for column in split if not any(column < other for other in split)]
    # Ranks from best to worst: the column that reaches highest comes first, and then the one that reaches lower.
    rank = {index: place for place, index in enumerate(sorted(range(len(names)), key=lambda i: -means[names[i]]))}
    columns.sort(key=lambda column: sorted(rank[index] for index in column))
    if len(columns) > len(string.ascii_letters):
        raise UserError(
            f"{len(columns)} letters are needed and there are {len(string.ascii_letters)}; compare fewer policies"
        )
    return {
        name: "".join(letter for letter, column in zip(string.ascii_letters, columns, strict=False) if index in column)
        for index, name in enumerate(names)
    }


def _without(column: frozenset, pair: tuple) -> tuple[frozenset, frozenset]:
    return column - {pair[0]}, column - {pair[1]}


def _values(table: pd.DataFrame, metric: str) -> dict[str, np.ndarray]:
    """The metric (S, N) of each policy, best mean first, all on the same seeds and starts."""
    if "policy" not in table.columns or table["policy"].nunique() < 2:
        raise UserError("there are not two policies to compare; give the rows of at least two in a column `policy`")
    names = list(dict.fromkeys(table["policy"]))
    values = {name: by_start(table, name, metric, like=names[0]).to_numpy() for name in names}
    return dict(sorted(values.items(), key=lambda item: -item[1].mean()))


def _p_values(p_values: Sequence[float]) -> np.ndarray:
    p = np.asarray(p_values, dtype=float).reshape(-1)
    if p.size == 0 or not ((p >= 0) & (p <= 1)).all():  # NaN is refused too
        raise UserError(f"{list(p_values)} are no p-values; give at least one number, all between 0 and 1")
    return p
