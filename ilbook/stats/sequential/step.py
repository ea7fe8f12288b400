"""STEP (Snyder et al. 2025, arXiv 2503.10966): the sequential test whose boundary is made by linear programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import check_alpha, check_pairs, check_sides
from ilbook.stats.sequential.base import CountTest, add_pair, dead_time

NEGLIGIBLE = 1e-13  # states that are rarer than this under every null are rejected free of charge: no LP can weigh them
N_WATCHED = 150  # further nulls: one whose budget is overdrawn joins the linear programs
TOLERANCE = 1e-6  # overdraft that is let pass; the solver's own is of that size


@dataclass(frozen=True, eq=False)
class StepTest(CountTest):
    """A STEP boundary: the null "the second policy is not better" is given up at most with probability `alpha`.

    With `sides` 2 the mirrored test runs beside it, so that "different" is wrong with probability 2 alpha at most.
    """

    n_max: int
    alpha: float  # per direction
    shape: float  # of the budget alpha (t / n_max) ** shape: above 1 keeps risk for later
    weights: np.ndarray  # all boundaries one after the other: (1 * 1 + 2 * 2 + ... + (n_max + 1) ** 2,)
    sides: int = 1

    def __post_init__(self) -> None:
        check_sides(self.sides)
        if self.weights.shape != (_offset(self.n_max + 1),):
            raise UserError(
                f"boundary of shape {self.weights.shape} does not fit n_max {self.n_max}; synthesise it again"
            )

    def at(self, t: int) -> np.ndarray:
        """See `CountTest`."""
        up = self.weights[_offset(t) : _offset(t + 1)].reshape(t + 1, t + 1)
        return up if self.sides == 1 else up + up.T

    def risk(self, p_first: float, p_second: float | None = None) -> float:
        """Probability that the second is ever declared better, at these rates; one rate means both are equal."""
        return float(self.stopping(p_first, p_first if p_second is None else p_second).second[-1])

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for np.savez_compressed."""
        names = ("n_max", "alpha", "shape", "weights", "sides")
        return {name: np.asarray(getattr(self, name)) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> StepTest:
        """The test that `arrays` came from; takes what np.load gives."""
        n_max, alpha, shape, sides = (arrays[name].item() for name in ("n_max", "alpha", "shape", "sides"))
        return cls(n_max, alpha, shape, np.asarray(arrays["weights"]), sides)


def synthesise(n_max: int, alpha: float = 0.05, n_nulls: int = 41, shape: float = 1.0, sides: int = 1) -> StepTest:
    """The STEP test for at most `n_max` pairs: after each pair, a linear program rejects as many states as it may.

    The risk so far is kept below alpha (t / n_max) ** shape for `n_nulls` equal rates p between 1 / n_max and
    1 - 1 / n_max, and between them within 1e-5. `alpha` is that of the whole test; two sides get half each.
    """
    check_pairs(n_max, "n_max")
    check_alpha(alpha)
    check_sides(sides)
    if n_max < 8 or n_nulls < 5 or not 0 < shape < np.inf:
        raise UserError(
            f"no STEP test for n_max {n_max}, {n_nulls} nulls, shape {shape}; "
            "it needs at least 8 pairs, 5 nulls and a positive shape"
        )
    budget = alpha / sides * (np.arange(n_max + 1) / n_max) ** shape
    nulls = np.linspace(1 / n_max, 1 - 1 / n_max, n_nulls)
    nulls = nulls[nulls <= 0.5 + 1e-12]  # success and failure are alike: 1 - p has the risk of p
    watched = np.sin(np.linspace(0, np.pi / 4, N_WATCHED + 1)[1:]) ** 2  # closer near 0, where the risk bends most
    rates = np.concatenate([nulls, watched])
    binding = np.arange(len(rates)) < len(nulls)  # those that the linear programs look at
    weights = np.zeros(_offset(n_max + 1))
    alive = np.ones((len(rates), 1, 1))
    used = np.zeros(len(rates))
    for t in range(1, n_max + 1):
        alive = add_pair(alive, rates, rates)  # (P, t + 1, t + 1)
        if t <= dead_time(n_max):
            continue
        while True:
            boundary = _most_rejected(alive[binding], budget[t] - used[binding])
            spent = used + np.einsum("pxy,xy->p", alive, boundary)
            worst = int(np.argmax(spent * ~binding))
            if binding.all() or spent[worst] <= budget[t] + TOLERANCE:
                break
            binding[worst] = True
        weights[_offset(t) : _offset(t + 1)] = boundary.reshape(-1)
        used = spent
        alive *= 1 - boundary
    return StepTest(int(n_max), alpha / sides, shape, weights, sides)


def worst_risk(test: StepTest, n_rates: int = 200) -> float:
    """The highest false-alarm probability of one direction over equal rates that the synthesis did not look at."""
    one_sided = replace(test, sides=1)
    return max(one_sided.risk(rate) for rate in np.linspace(0, 0.5, n_rates + 2)[1:])


def _most_rejected(alive: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """Rejection weights (t + 1, t + 1) with the largest sum that cost each null (P,) at most its budget (P,).

    w(x, y) = w(t - y, t - x): the mirror image, failures of the one for successes of the other, is as surprising.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

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
        solved = linprog(
            -np.ones(open_.sum()),
            A_ub=csr_array(cost[:, open_] / scale),
            b_ub=np.maximum(budget, 0) / scale,
            bounds=(0, 1),
            method="highs",
            options={"presolve": False},  # three times faster here
        )
        if solved.status != 0:
            raise RuntimeError(f"the linear program after {t} pairs was not solved: {solved.message}")
        w[open_] = solved.x
    w = np.where(w > 1 - 1e-9, 1.0, np.where(w < 1e-9, 0.0, w))
    boundary = np.zeros((t + 1, t + 1))
    boundary[x, y] = w
    boundary[t - y, t - x] = w
    return boundary


def _offset(t: int) -> int:
    """Where the boundary of t pairs starts in the flat array: 1 + 4 + ... + t ** 2."""
    return t * (t + 1) * (2 * t + 1) // 6
