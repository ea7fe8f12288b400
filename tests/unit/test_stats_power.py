import numpy as np
import pytest
from statsmodels.stats.proportion import power_proportions_2indep

from ilbook.errors import UserError
from ilbook.stats import pairs, power
from ilbook.stats.sequential import peeking


@pytest.mark.parametrize(("p", "q", "n"), [(0.5, 0.7, 93), (0.2, 0.1, 200), (0.9, 0.6, 30)])
def test_unpaired_power_agrees_with_statsmodels_and_with_the_exact_test(p, q, n):
    found = power.power_unpaired(p, q, n)
    assert found == pytest.approx(power_proportions_2indep(p - q, q, n).power, abs=1e-3)
    assert found == pytest.approx(power.exact_power(p, q, n, p_values=peeking.pooled_z_p), abs=0.03)


def test_the_cards_numbers():
    for n, gap in ((20, 0.39), (50, 0.27), (100, 0.195)):
        assert power.power_unpaired(0.5, 0.5 + gap, n) == pytest.approx(0.8, abs=0.03)
    assert power.sample_size(0.5, 0.7) == 93


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.7), (0.9, 0.95), (0.3, 0.1)])
def test_the_sample_size_is_the_smallest_that_is_enough(p, q):
    n = power.sample_size(p, q)
    assert power.power_unpaired(p, q, n) >= 0.8 > power.power_unpaired(p, q, n - 1)


@pytest.mark.parametrize("p_values", [peeking.fisher_p, peeking.barnard_p])
def test_exact_tests_keep_their_level(p_values):
    assert max(power.exact_power(p, p, 30, p_values=p_values) for p in np.linspace(0, 1, 41)) <= 0.05


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_the_sample_size_in_pairs_is_enough_for_simulated_pairs(correlation):
    rng, n = np.random.default_rng(0), power.sample_size_paired(0.5, 0.7, correlation)
    wins, losses = power.discordant(0.5, 0.7, correlation)
    both = 0.5 - losses
    kinds = rng.choice(4, p=[wins, losses, both, 1 - wins - losses - both], size=(2000, n))
    rejected = [pairs.mcnemar(np.isin(row, (1, 2)), np.isin(row, (0, 2))).p <= 0.05 for row in kinds]
    assert np.mean(rejected) == pytest.approx(0.78, abs=0.05)  # the exact test is a little more careful


def test_what_pairing_buys_grows_with_the_correlation():
    sizes = [power.sample_size_paired(0.5, 0.7, correlation) for correlation in (0, 0.3, 0.6)]
    assert sizes[0] == pytest.approx(power.sample_size(0.5, 0.7), abs=5)
    assert sizes == sorted(sizes, reverse=True) and sizes[2] < sizes[0] / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power.sample_size(0.5, 0.5), "both rates are 0.5"),
        (lambda: power.sample_size(0.5, 1.5), "between 0 and 1"),
        (lambda: power.sample_size(0.5, 0.7, alpha=5), "alpha 5"),
        (lambda: power.sample_size(0.5, 0.7, power=80), "power 80"),
        (lambda: power.power_unpaired(0.5, 0.7, 0), "n is 0"),
        (lambda: power.sample_size_paired(0.1, 0.9, 0.9), "cannot have the correlation"),
        (lambda: power.power_unpaired(float("nan"), 0.5, 10), "rate nan"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
