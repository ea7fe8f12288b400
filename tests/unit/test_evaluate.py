"""Closed-loop evaluation: the table, the visited states, and that episodes do not depend on their neighbours."""

import time

import numpy as np
import pytest
import torch

from ilbook import used
from ilbook.control.receding import RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.rollout.evaluate import evaluate
from ilbook.tasks.avoid import Avoid
from ilbook.tasks.pusht import PushT
from tests.contract.small import Gaussian, Onward

COLUMNS = ["policy", "train_seed", "start", "success", "score", "length"]
MORE = ["perturbation", "invalid", "wall_seconds"]


@pytest.fixture(scope="module")
def result():
    return evaluate(Avoid(), Onward(broken=(2,)), [11, 4, 7, 5], "onward", train_seed=3)


def test_one_row_per_episode(result):
    table = result.table
    assert list(table.columns) == [*COLUMNS, "mode", *MORE]
    assert table["start"].tolist() == [11, 4, 7, 5]
    assert set(table["policy"]) == {"onward"} and set(table["train_seed"]) == {3}
    assert table["success"].isin([0, 1]).all() and table["success"].dtype.kind == "i"
    assert table["score"].between(0, 1).all()
    assert table["length"][2] == 2 and table["success"][2] == 0
    assert (table["length"][[0, 1, 3]] > 10).all()
    assert table["invalid"].tolist() == [0, 0, 1, 0] and set(table["perturbation"]) == {"none"}
    assert (table["wall_seconds"] > 0).all()


def test_states_of_the_whole_episode(result):
    starts = Avoid().starts([11, 4, 7, 5])
    for states, start, length in zip(result.states, starts, result.table["length"], strict=True):
        assert states.shape == (length + 1, 4)
        assert np.array_equal(states[0], start)
        assert (np.diff(states[:, 3]) > 0).all()  # it never stands still: no state of a finished copy is in it


def test_neighbours_do_not_matter(result):
    for i, start in ((0, 11), (3, 5)):
        alone = evaluate(Avoid(), Onward(), [start], "onward", train_seed=3)
        assert np.array_equal(alone.states[0], result.states[i])
        pure = result.table.drop(columns="wall_seconds")  # all but the clock
        assert alone.table.drop(columns="wall_seconds").iloc[0].equals(pure.iloc[i])


def test_the_controller_is_reset_and_progress_told():
    controller, calls = Onward(), []
    for _ in range(2):
        evaluate(Avoid(), controller, [0, 1], "onward", progress=calls.append)
    assert controller.resets == 2
    assert len(calls) % 2 == 0 and calls[: len(calls) // 2] == calls[len(calls) // 2 :]
    assert sum(calls) == 4 and calls[0] == 0  # episodes that ended in each step


def test_a_task_without_extra_columns():
    result = evaluate(PushT(), Onward(broken=(0, 1)), [0, 1], "onward")
    assert list(result.table.columns) == [*COLUMNS, *MORE]
    assert result.table["length"].tolist() == [2, 2] and result.table["success"].tolist() == [0, 0]
    assert result.table["score"].tolist() == untouched_scores([0, 1])


def untouched_scores(start_seeds):
    """Scores of blocks that nobody touched."""
    task = PushT()
    sim = task.batch(len(start_seeds))
    sim.reset(task.starts(start_seeds))
    return sim.score.tolist()


def test_how_a_policy_is_executed_stands_in_the_table():
    torch.manual_seed(0)
    policy = Gaussian(4, 2, Windows(1, 8)).eval()
    policy.n_steps = 5
    table = evaluate(Avoid(max_steps=5), RecedingHorizon(policy, 3, delay=1), [0], "gaussian").table
    assert list(table.columns) == [*COLUMNS, "horizon", "n_exec", "delay", "n_steps", "mode", *MORE]
    assert table.loc[0, ["horizon", "n_exec", "delay", "n_steps"]].tolist() == [8, 3, 1, 5]


def test_what_was_used_is_noted():
    with used.collected() as parts:
        torch.manual_seed(0)
        policy = Gaussian(4, 2, Windows(1, 8)).eval()
        evaluate(Avoid(max_steps=3, shift={"lag": 1.0}), RecedingHorizon(policy), [0], "gaussian")
    ours = {"nets.mlp", "policies.base", "control.receding", "rollout.play", "rollout.evaluate"}
    assert parts == ours | {"tasks.limit", "tasks.avoid", "tasks.avoid:lag"}


def test_invalid_episodes_are_reported(capsys):
    evaluate(Avoid(), Onward(broken=(0, 2)), [11, 4, 7], "onward")
    said = capsys.readouterr().out
    assert "onward: 2 of 3 episodes ended by a number that is not finite (start 11, 7); they count as failures" in said
    evaluate(Avoid(), Onward(), [11], "onward")
    assert capsys.readouterr().out == ""


def test_a_simulation_that_gives_out_is_a_failed_episode(monkeypatch):
    judge = Avoid.judge

    def breaks(self, sim, index, trace):
        judge(self, sim, index, trace)
        if 1 in index and sim.length[1] == 2:
            sim.physics[1] = np.nan

    monkeypatch.setattr(Avoid, "judge", breaks)
    table = evaluate(Avoid(), Calm(), [11, 4, 7], "calm").table
    assert table["invalid"].tolist() == [0, 1, 0] and table["success"][1] == 0 and table["length"][1] == 2
    assert (table["length"][[0, 2]] > 10).all()


class Calm(Onward):
    def request(self, seen, copies):
        super().request({"obs": np.nan_to_num(seen["obs"])}, copies)  # hides that its state is not finite


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ([], "list of start seeds is empty"),
        ([0, -1], "start seed -1 names no initial state"),
        ([0, 0.5], "start seed 0.5"),
        ([True, 2], "start seed True"),
        ([3, 5, 3, 7], "start 3 is listed more than once"),
    ],
)
def test_starts_are_listed_in_advance_and_once(starts, words):
    with pytest.raises(UserError, match=words):
        evaluate(Avoid(), Onward(), starts, "onward")


def test_one_start_may_stand_for_all_episodes():
    table = evaluate(Avoid(), Onward(), [6, 6, 6], "onward").table
    assert table["start"].tolist() == [6, 6, 6] and table["length"].nunique() == 1
    torch.manual_seed(0)
    noisy = RecedingHorizon(Gaussian(4, 2, Windows(1, 2), relative_to=(0, 1)).eval())
    result = evaluate(Avoid(max_steps=5), noisy, [6, 6, 6], "noisy")
    assert not np.array_equal(result.states[0], result.states[1])  # all chance is the policy's


def test_episodes_may_go_on_from_given_states():
    states = Avoid().starts([3, 4]) + np.array([0.0, 0.1, 0.0, 0.1])
    result = evaluate(Avoid(), Onward(), [3, 4], "onward", states=states)
    assert np.array_equal(np.stack([path[0] for path in result.states]), states)
    assert result.table["start"].tolist() == [3, 4]


def test_the_shift_stands_in_the_table():
    shifted = Avoid(shift={"mass": 0.5, "lag": 1.0})
    assert set(evaluate(shifted, Onward(), [0], "onward").table["perturbation"]) == {"lag=1, mass=0.5"}
    assert set(evaluate(Avoid(), Onward(), [0], "onward").table["perturbation"]) == {"none"}


def test_the_wall_time_of_a_batch_is_shared_out():
    before = time.perf_counter()
    table = evaluate(Avoid(), Onward(), range(5), "onward").table
    assert 0.5 < table["wall_seconds"].sum() / (time.perf_counter() - before) <= 1
