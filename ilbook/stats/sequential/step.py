"""STEP (Snyder et al. 2025, arXiv 2503.10966): the sequential test whose boundary is made by linear programs."""

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.estimate import check_alpha, check_whole
from ilbook.stats.sequential.base import CountTest, add_pair

NEGLIGIBLE = 1e-13  # states that are rarer than this under every null are rejected free of charge: no LP can weigh them
N_NULLS = 41  # equal rates that the linear programs look at; those above 1/2 mirror the others
N_WATCHED = 150  # further nulls: one whose budget is overdrawn joins the linear programs
TOLERANCE = 1e-6  # overdraft that is let pass; the solver's own is of that size


def synthesise(n_max: int, alpha: float = 0.05, shape: float = 1.0, sides: int = 1) -> CountTest:
    """The STEP test for at most `n_max` pairs: after each pair, a linear program rejects as many states as it may.

    The null "the second policy is not better" is given up with probability `alpha` at most: the risk so far is kept
    below alpha (t / n_max) ** shape for N_NULLS equal rates p between 1 / n_max and 1 - 1 / n_max, and between them
    within 1e-5. With `sides` 2 the mirrored test runs beside it, each with half of `alpha`.
    """
    used.note("stats.sequential.step")
    check_whole(n_max, "n_max")
    check_alpha(alpha, sides)
    if n_max < 8 or not 0 < shape < np.inf:
        raise UserError(f"no STEP test for n_max {n_max}, shape {shape}; use at least 8 pairs and a positive shape")
    budget = alpha / sides * (np.arange(n_max + 1) / n_max) ** shape
    nulls = np.linspace(1 / n_max, 1 - 1 / n_max, N_NULLS)
    nulls = nulls[nulls <= 0.5 + 1e-12]  # success and failure are alike: 1 - p has the risk of p
    watched = np.sin(np.linspace(0, np.pi / 4, N_WATCHED + 1)[1:]) ** 2  # closer near 0, where the risk bends most
    rates = np.concatenate([nulls, watched])
    binding = np.arange(len(rates)) < len(nulls)  # those that the linear programs look at
    boundaries = [np.zeros((t + 1, t + 1)) for t in range(n_max + 1)]
    alive = np.ones((len(rates), 1, 1))
    spent = np.zeros(len(rates))
    for t in range(1, n_max + 1):
        alive = add_pair(alive, rates, rates)  # (P, t + 1, t + 1)
        if t <= dead_time(n_max):
            continue
        before, overdrawn = spent, True
        while overdrawn:
            boundaries[t] = _most_rejected(alive[binding], budget[t] - before[binding])
            spent = before + np.einsum("pxy,xy->p", alive, boundaries[t])
            worst = int(np.argmax(spent * ~binding))
            overdrawn = not binding.all() and spent[worst] > budget[t] + TOLERANCE
            binding[worst] |= overdrawn
        alive *= 1 - boundaries[t]
    return CountTest(boundaries if sides == 1 else [up + up.T for up in boundaries])


def dead_time(n_max: int) -> int:
    """Pairs during which a test may not stop: max(4, floor(log2 n_max) + 1) (Snyder et al. 2025)."""
    return max(4, int(n_max).bit_length())


def worst_risk(test: CountTest) -> float:
    """The highest probability of a false claim for the second policy, over equal rates that synthesis did not see."""
    used.note("stats.sequential.step")
    return max(float(test.stopping(rate, rate).second[-1]) for rate in np.linspace(0, 0.5, 202)[1:])


def _most_rejected(alive: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """Rejection weights (t + 1, t + 1) with the largest sum that cost each null (P,) at most its budget (P,).

    w(x, y) = w(t - y, t - x): the mirror image, failures of the one for successes of the other, is as surprising.
    """
    t = alive.shape[1] - 1
    x, y = np.triu_indices(t + 1, 1)
    keep = x + y <= t  # one of each state and its mirror
    x, y = x[keep], y[keep]
    # A state on the anti-diagonal is its own mirror. In the sum, a state and its mirror count as one.
    cost = alive[:, x, y] + np.where(x + y == t, 0.0, alive[:, t - y, t - x])  # (P, V)
    w = np.ones(len(x))
    open_ = cost.max(axis=0) > NEGLIGIBLE
    if open_.any():
        # In units of the typical budget: the solver's tolerances are absolute.
        scale = max(float(np.median(budget)), 1e-12)
        costs, limits = csr_array(cost[:, open_] / scale), np.maximum(budget, 0) / scale
        faster = {"presolve": False}  # three times
        solved = linprog(-np.ones(open_.sum()), costs, limits, bounds=(0, 1), options=faster)
        if solved.status != 0:
            raise RuntimeError(f"the linear program after {t} pairs was not solved: {solved.message}")
        w[open_] = solved.x
    boundary = np.zeros((t + 1, t + 1))
    boundary[x, y] = boundary[t - y, t - x] = w.round(9)
    return boundary
