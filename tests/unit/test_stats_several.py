import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilbook.errors import UserError
from ilbook.stats import pairs, several

THOUSANDTHS = st.integers(0, 1000).map(lambda number: number / 1000)
P_VALUES = st.lists(THOUSANDTHS, min_size=1, max_size=15)


def table(seeds=1, n=80, **rates):
    """Rows of policies that succeed with these rates on common starts."""
    rng = np.random.default_rng(0)
    rows = [
        (policy, seed, start, int(rng.random() < rate))
        for policy, rate in rates.items()
        for seed in range(seeds)
        for start in range(n)
    ]
    return pd.DataFrame(rows, columns=["policy", "train_seed", "start", "success"])


@settings(max_examples=15)  # multipletests collects garbage at each call: 0.1 s
@given(P_VALUES)
def test_adjusted_p_values_are_those_of_the_definitions(p_values):
    k, p = len(p_values), np.array(p_values)
    bonferroni, holm = several.adjusted(p), several.adjusted(p, "holm")
    assert bonferroni == pytest.approx(np.minimum(k * p, 1))
    for at, adjusted in zip(p, holm, strict=True):
        ranked = np.sort(p)[: np.sum(p <= at)]
        assert adjusted == pytest.approx(min(max((k - rank) * one for rank, one in enumerate(ranked)), 1))
    assert (holm <= bonferroni + 1e-12).all()


@pytest.mark.parametrize("p_values", [[], [0.1, np.nan], [1.2], [-0.1]])
def test_what_is_no_p_value_is_refused(p_values):
    with pytest.raises(UserError, match="no p-values"):
        several.adjusted(p_values)


@st.composite
def comparisons(draw):
    k = draw(st.integers(1, 7))
    upper = np.array(draw(st.lists(st.booleans(), min_size=k * k, max_size=k * k))).reshape(k, k)
    apart = np.triu(upper, 1)
    means = draw(st.lists(THOUSANDTHS, min_size=k, max_size=k))
    return {f"p{index}": mean for index, mean in enumerate(means)}, apart | apart.T


def lettered(means, apart):
    """The letters from the matrix (K, K) of what was told apart, in the order of the means."""
    rows = [(one, other, apart[i][j]) for i, one in enumerate(means) for j, other in enumerate(means) if i < j]
    return several.letters_of(pd.DataFrame(rows, columns=["first", "second", "different"]), means)


@given(comparisons())
def test_policies_share_a_letter_exactly_if_they_are_not_told_apart(case):
    means, apart = case
    shown = lettered(means, apart)
    for i, one in enumerate(means):
        for j, other in enumerate(means):
            assert bool(set(shown[one]) & set(shown[other])) == (not apart[i, j])
    used = sorted(set("".join(shown.values())))
    assert used == [chr(ord("a") + index) for index in range(len(used))]
    holders = [{name for name in means if letter in shown[name]} for letter in used]
    assert not any(one < other for one in holders for other in holders), "a letter says nothing that another does not"
    assert "a" in shown[max(means, key=means.get)]


def test_letters_of_an_example():
    # The best differs from the two worst, the second best from the worst only.
    means = {"worst": 0.2, "best": 0.9, "third": 0.5, "second": 0.7}
    apart = np.zeros((4, 4), dtype=bool)
    for one, other in ((0, 1), (1, 2), (0, 3)):
        apart[one, other] = apart[other, one] = True
    assert lettered(means, apart) == {"best": "a", "second": "ab", "third": "bc", "worst": "c"}


@pytest.mark.parametrize(
    ("means", "message"),
    [({"a": 1, "b": np.nan}, "NaN"), ({}, "at least one policy"), ({"a": 1}, "unknown policy 'b'")],
)
def test_letters_refuse(means, message):
    with pytest.raises(UserError, match=message):
        several.letters_of(pd.DataFrame({"first": ["a"], "second": ["b"], "different": [True]}), means)


def test_all_pairs_are_compared_and_lettered():
    rows = table(bad=0.1, good=0.8, fine=0.75)
    found = several.compare_all(rows, "success")
    assert set(found.loc[found.different, ["first", "second"]].itertuples(index=False, name=None)) == {
        ("good", "bad"), ("fine", "bad")
    }  # fmt: skip
    one = found.iloc[0]
    direct = pairs.mcnemar(*(rows.loc[rows.policy == name, "success"] for name in (one["first"], one["second"])))
    assert (one.p, one.effect) == (direct.p, pytest.approx(direct.effect))
    assert one.adjusted == min(3 * one.p, 1)
    means = rows.groupby("policy")["success"].mean().to_dict()
    assert several.letters_of(found, means) == {"good": "a", "fine": "a", "bad": "b"}


def test_three_seeds_on_common_starts_are_no_independent_trials():
    rows = table(seeds=3, bad=0.1, good=0.8)
    with pytest.raises(UserError, match="several training seeds"):
        several.compare_all(rows, "success")


def test_comparisons_need_two_policies_on_the_same_starts():
    with pytest.raises(UserError, match="not two policies"):
        several.compare_all(table(a=0.5), "success")
    with pytest.raises(UserError, match="different starts"):
        several.compare_all(table(a=0.5, b=0.5).iloc[:-1], "success")
