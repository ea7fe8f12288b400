"""Closed-loop evaluation: the table, the visited states, and that episodes do not depend on their neighbours."""

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.rollout.evaluate import check_starts, evaluate, shift
from ilbook.tasks.avoid import Avoid
from ilbook.tasks.pusht import PushT

COLUMNS = ["policy", "train_seed", "start", "success", "score", "length"]
MORE = ["perturbation", "invalid", "wall_seconds"]


class Onward:
    """Goes straight up from where it is; the copies in `broken` send nonsense at the third step."""

    def __init__(self, broken: tuple[int, ...] = ()):
        self.broken, self.resets, self.step = list(broken), 0, 0

    def reset(self):
        self.resets, self.step = self.resets + 1, 0

    def act(self, obs):
        self.step += 1
        action = obs[:, :2] + [0.0, 0.02]
        if self.step == 3:
            action[self.broken] = np.nan
        return action


@pytest.fixture(scope="module")
def result():
    return evaluate(Avoid, Onward(broken=(2,)), [11, 4, 7, 5], "onward", train_seed=3)


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
    starts = Avoid(1).starts([11, 4, 7, 5])
    for states, start, length in zip(result.states, starts, result.table["length"], strict=True):
        assert states.shape == (length + 1, 4)
        assert np.array_equal(states[0], start)
        assert (np.diff(states[:, 3]) > 0).all()  # it never stands still: no state of a finished copy is in it


def test_neighbours_do_not_matter(result):
    for i, start in ((0, 11), (3, 5)):
        alone = evaluate(Avoid, Onward(), [start], "onward", train_seed=3)
        assert np.array_equal(alone.states[0], result.states[i])
        pure = result.table.drop(columns="wall_seconds")  # all but the clock
        assert alone.table.drop(columns="wall_seconds").iloc[0].equals(pure.iloc[i])


def test_the_controller_is_reset_and_progress_told():
    controller, calls = Onward(), []
    for _ in range(2):
        evaluate(Avoid, controller, [0, 1], "onward", progress=lambda step, running: calls.append((step, running)))
    assert controller.resets == 2
    steps = [step for step, _ in calls]
    assert steps[: len(steps) // 2] == list(range(len(steps) // 2)) == steps[len(steps) // 2 :]
    assert calls[0] == (0, 2) and all(running >= 1 for _, running in calls)


def test_a_task_without_extra_columns():
    result = evaluate(PushT, Onward(broken=(0, 1)), [0, 1], "onward")
    assert list(result.table.columns) == [*COLUMNS, *MORE]
    assert result.table["length"].tolist() == [2, 2] and result.table["success"].tolist() == [0, 0]
    assert result.table["score"].tolist() == untouched_scores([0, 1])


def untouched_scores(start_seeds):
    """Scores of blocks that nobody touched."""
    task = PushT(len(start_seeds))
    task.reset(task.starts(start_seeds))
    return task.score.tolist()


def test_invalid_episodes_are_reported(capsys):
    evaluate(Avoid, Onward(broken=(0, 2)), [11, 4, 7], "onward")
    said = capsys.readouterr().out
    assert "onward: 2 of 3 episodes ended by a number that is not finite (start 11, 7); they count as failures" in said
    evaluate(Avoid, Onward(), [11], "onward")
    assert capsys.readouterr().out == ""


def test_a_simulation_that_gives_out_is_a_failed_episode(monkeypatch):
    judge = Avoid._judge

    def breaks(self, index, trace):
        judge(self, index, trace)
        if 1 in index and self.length[1] == 2:
            self.physics[1] = np.nan

    monkeypatch.setattr(Avoid, "_judge", breaks)
    table = evaluate(Avoid, Calm(), [11, 4, 7], "calm").table
    assert table["invalid"].tolist() == [0, 1, 0] and table["success"][1] == 0 and table["length"][1] == 2
    assert (table["length"][[0, 2]] > 10).all()


class Calm(Onward):
    def act(self, obs):
        return np.nan_to_num(super().act(obs))  # hides from the task that its state is not finite


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda obs: obs[:, :3], r"policy 'x' answered actions of shape \(2, 3\) to 2 observations of avoid.*\(2, 2\)"),
        (lambda obs: obs[0, :2], r"actions of shape \(2,\)"),
        (lambda obs: None, "must return numbers of shape"),
        (lambda obs: "up", "answered a str"),
    ],
)
def test_a_wrong_answer_is_named(answer, words):
    controller = Onward()
    controller.act = answer
    with pytest.raises(UserError, match=words):
        evaluate(Avoid, controller, [0, 1], "x")


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
        evaluate(Avoid, Onward(), starts, "onward")


def test_one_start_may_stand_for_all_episodes():
    table = evaluate(Avoid, Onward(), [6, 6, 6], "onward").table
    assert table["start"].tolist() == [6, 6, 6] and table["length"].nunique() == 1
    with pytest.raises(UserError, match="start 6 is listed more than once"):
        check_starts([6, 6, 6])


def test_the_shift_stands_in_the_table():
    shifted = Avoid.perturbed(mass=0.5, lag=1.0)
    assert set(evaluate(shifted, Onward(), [0], "onward").table["perturbation"]) == {"lag=1, mass=0.5"}
    assert shift(Avoid) == "none"


def test_the_wall_time_of_a_batch_is_shared_out():
    import time

    before = time.perf_counter()
    table = evaluate(Avoid, Onward(), range(5), "onward").table
    assert 0.5 < table["wall_seconds"].sum() / (time.perf_counter() - before) <= 1
