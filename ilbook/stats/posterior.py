"""What is believed of a success rate after some episodes: a Beta distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import Estimate, check_counts, check_level

QUADRATURE = 400  # nodes; the error of `better_than` is then below 1e-6 for up to 2,000 episodes (tested)


@dataclass(frozen=True)
class Posterior:
    """Beta(prior + successes, prior + failures); prior 1 is uniform, prior 0.5 is Jeffreys'."""

    successes: int
    n: int
    prior: float = 1.0

    def __post_init__(self) -> None:
        check_counts(self.successes, self.n)
        if not 0 < self.prior < np.inf:
            raise UserError(f"prior {self.prior} is not positive; use 1 (uniform) or 0.5 (Jeffreys)")

    @property
    def a(self) -> float:
        """First parameter of the Beta distribution."""
        return self.prior + self.successes

    @property
    def b(self) -> float:
        """Second parameter of the Beta distribution."""
        return self.prior + self.n - self.successes

    @property
    def mean(self) -> float:
        """The expected rate; between the sample's rate and 1/2."""
        return self.a / (self.a + self.b)

    def quantile(self, probability: float | np.ndarray) -> np.ndarray:
        """The rates (...) below which the true rate lies with these probabilities (...)."""
        from scipy.special import betaincinv

        return betaincinv(self.a, self.b, probability)

    def interval(self, level: float = 0.95) -> Estimate:
        """The posterior mean with the equal-tailed interval: as much belief above it as below."""
        check_level(level)
        low, high = self.quantile(np.array([(1 - level) / 2, (1 + level) / 2]))
        prior = {1.0: "uniform", 0.5: "Jeffreys"}.get(float(self.prior), f"Beta({self.prior:g}, {self.prior:g})")
        return Estimate(self.mean, float(low), float(high), int(self.n), 1, f"posterior, {prior} prior, {level:.0%}")

    def density(self, rates: np.ndarray) -> np.ndarray:
        """Density (...) at `rates` (...), the outline of a violin; integrates to 1 over 0 to 1."""
        from scipy.special import betaln, xlog1py, xlogy

        rates = np.asarray(rates, dtype=float)
        return np.exp(xlogy(self.a - 1, rates) + xlog1py(self.b - 1, -rates) - betaln(self.a, self.b))

    def better_than(self, other: Posterior) -> float:
        """Probability that this rate is higher than the other's, given both samples, taken as independent."""
        from scipy.special import betainc

        # The mean of the other's cumulative distribution over this posterior, by Gauss-Legendre over its quantiles.
        nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE)
        rates = self.quantile((nodes + 1) / 2)
        return float(weights @ betainc(other.a, other.b, rates) / 2)
