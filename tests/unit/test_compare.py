"""Several policies on the same starts: blind trials, and claims that come before their data."""

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from ilbook.control.receding import RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.page.claims import Claim
from ilbook.page.run import Run
from ilbook.policies.bc import MLPPolicy
from ilbook.rollout.compare import Blind, compare
from ilbook.rollout.evaluate import evaluate
from ilbook.tasks.avoid import Avoid
from tests.contract.small import Onward

STARTS = [11, 4, 7, 5, 9]
TASK = Avoid()


def pure(table):
    return table.drop(columns="wall_seconds")


def chunks(n_exec=3):
    torch.manual_seed(0)
    policy = MLPPolicy(4, 2, Windows(1, 4), 64, 2, (0, 1))
    return RecedingHorizon(policy.eval(), n_exec)


def test_every_policy_meets_the_same_starts():
    result = compare(TASK, {"up": Onward(), "aside": Onward(0.01)}, STARTS)
    assert result.table["start"].tolist() == STARTS * 2
    assert result.table["policy"].tolist() == ["up"] * 5 + ["aside"] * 5
    alone = evaluate(TASK, Onward(0.01), STARTS, "aside")
    assert_frame_equal(pure(result.table)[5:].reset_index(drop=True), pure(alone.table))
    for ours, theirs in zip(result["aside"].states, alone.states, strict=True):
        assert np.array_equal(ours, theirs)
    with pytest.raises(UserError, match="unknown policy of this comparison 'upp'; nearest valid name: 'up'"):
        result["upp"]


def test_each_training_is_judged():
    result = compare(TASK, {"a": {0: Onward(), 3: Onward(0.003)}, "b": Onward()}, STARTS)
    assert result.table["train_seed"].tolist() == [0] * 5 + [3] * 5 + [0] * 5
    assert len(result.rollouts) == 3 and result["a"] is result.rollouts[0]
    other = evaluate(TASK, Onward(0.003), STARTS, "a", 3)
    assert_frame_equal(pure(result.rollouts[1].table), pure(other.table))


def test_one_policy_may_be_executed_in_several_ways():
    table = compare(TASK, {"chunk": [chunks(1), chunks(4)], "up": Onward()}, [0, 1]).table
    assert table["policy"].tolist() == ["chunk"] * 4 + ["up"] * 2
    assert table["n_exec"].tolist()[:4] == [1, 1, 4, 4] and table["n_exec"].isna().tolist()[4:] == [True] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_seeds": [1, 1, 2]}, "start 1 is listed more than once"),
        ({"start_seeds": []}, "is empty"),
        ({"arms": {}}, "at least one policy"),
        ({"arms": {"a": 3}}, "policy 'a' is a int; give a controller, such as RecedingHorizon"),
        ({"arms": {"a": {0: None}}}, "policy 'a' is a NoneType"),
        ({"arms": {"a": [Onward(), MLPPolicy(4, 2, Windows())]}}, "policy 'a' is a MLPPolicy"),
    ],
)
def test_compare_refuses(change, words):
    with pytest.raises(UserError, match=words):
        compare(**{"task": TASK, "arms": {"a": Onward()}, "start_seeds": [0, 1], **change})


def test_progress_counts_episodes():
    told = []
    compare(TASK, {"a": Onward(), "b": Onward()}, STARTS, progress=told.append)
    assert sum(told) == 10 and min(told) == 0


def test_the_table_is_a_plain_frame():
    assert type(compare(TASK, {"a": Onward()}, [0]).table) is pd.DataFrame


# -- blind ------------------------------------------------------------------------------------------------------------
def test_a_blind_trial_tells_names_only_when_all_is_scored():
    policies = {"up": Onward(), "aside": {0: Onward(0.01), 1: Onward(0.015)}, "more aside": Onward(0.02)}
    blind = Blind(policies, np.random.default_rng(3))
    with pytest.raises(UserError, match="not scored yet"):
        blind.unseal()
    result = compare(TASK, blind, STARTS)
    codes = list(dict.fromkeys(result.table["policy"]))
    assert codes == list(blind) == blind.order and not set(codes) & set(policies)
    assert all(len(code) == 2 for code in codes)
    assert not any(name in text for name in policies for text in (repr(blind), str(result.table)))
    open_result = blind.reveal(result)
    names = blind.unseal()
    assert list(names) == blind.order and set(names.values()) == set(policies)
    known = compare(TASK, policies, STARTS)
    for name in policies:
        ours, theirs = (r.table[r.table["policy"] == name].reset_index(drop=True) for r in (open_result, known))
        assert_frame_equal(pure(ours).drop(columns="code"), pure(theirs))
        assert {names[code] for code in ours["code"]} == {name}
        assert np.array_equal(open_result[name].states[0], known[name].states[0])
    with pytest.raises(UserError, match="is unsealed"):
        compare(TASK, blind, STARTS)


def test_scores_by_hand_stay_sealed():
    blind = Blind({"up": Onward(), "aside": Onward(0.01)}, np.random.default_rng(0))
    first, second = blind
    blind.scored(first)
    with pytest.raises(UserError, match=f"{second} not scored yet"):
        blind.unseal()
    with pytest.raises(UserError, match="unknown code 'Z1'"):
        blind.scored("Z1")
    blind.scored(second)
    assert list(blind.unseal()) == [first, second]


def test_an_interrupted_trial_stays_sealed():
    class Interrupted(Onward):
        def action(self, alive, command):
            raise KeyboardInterrupt

    blind = Blind({"up": Interrupted(), "aside": Interrupted()}, np.random.default_rng(0))
    with pytest.raises(KeyboardInterrupt):
        compare(TASK, blind, STARTS)
    with pytest.raises(UserError, match="not scored yet"):
        blind.unseal()


def test_order_and_codes_are_random_and_follow_from_the_generator():
    policies = {name: Onward() for name in "abcd"}

    def names(seed):
        blind = Blind(policies, np.random.default_rng(seed))
        for code in blind:
            blind.scored(code)
        return list(blind.unseal().items())

    assert names(1) == names(1)
    assert len({tuple(name for _, name in names(seed)) for seed in range(20)}) > 5
    for few in ({}, {"a": Onward()}):
        with pytest.raises(UserError, match="hides nothing"):
            Blind(few, np.random.default_rng(0))


# -- claims -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("ILBOOK_OUT", str(tmp_path))
    return Run.start("n")


def claim(policy="up", minimum=0.1):
    return Claim("c", "Up is better.", "m", policy, "aside", "success", "higher", minimum, "s")


def test_a_claim_comes_before_its_data(run):
    evaluate(TASK, Onward(), [0, 1], "aside")  # the failure that the page starts from
    run.declare(claim())
    evaluate(TASK, Onward(), [0, 1], "up")
    run.declare(claim())  # the same cell again
    for late in (
        claim(minimum=0.2),
        Claim("d", "x", "m", "up", None, "success", "higher", 0.1, "s"),
    ):
        with pytest.raises(UserError, match="declared after its data: this run has already evaluated 'up'"):
            run.declare(late)
    Run.start("n").declare(claim(minimum=0.2))  # a run of its own, such as all cells again


@pytest.mark.parametrize("blind", [False, True])
def test_compare_counts_as_data_under_any_name(run, blind):
    policies = {"up": Onward(), "aside": Onward(0.01)}
    compare(TASK, policies, [0, 1])
    later = Run.start("n")
    compare(TASK, Blind(policies, np.random.default_rng(0)) if blind else policies, [0, 1])
    with pytest.raises(UserError, match="declared after its data"):
        later.declare(claim())


def test_wall_time_is_in_no_result(run):
    table = evaluate(TASK, Onward(), [0, 1], "up").table
    with pytest.raises(UserError, match="column 'wall_seconds', which differs from run to run"):
        run.table("episodes", table)
    run.table("episodes", pure(table))
    with pytest.raises(UserError, match="wall_seconds differs"):
        Claim("c", "Up is quick.", "m", "up", None, "wall_seconds", "lower", -1.0, "s")
