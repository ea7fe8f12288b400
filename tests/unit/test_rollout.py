"""Closed-loop evaluation: the table, the visited states, and that episodes do not depend on their neighbours."""

import numpy as np
import pytest

from ilbook.rollout import evaluate
from ilbook.tasks.avoid import Avoid
from ilbook.tasks.pusht import PushT


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
    assert list(table.columns) == ["policy", "train_seed", "start", "success", "score", "length", "mode"]
    assert table["start"].tolist() == [11, 4, 7, 5]
    assert set(table["policy"]) == {"onward"} and set(table["train_seed"]) == {3}
    assert table["success"].isin([0, 1]).all() and table["success"].dtype.kind == "i"
    assert table["score"].between(0, 1).all()
    assert table["length"][2] == 2 and table["success"][2] == 0
    assert (table["length"][[0, 1, 3]] > 10).all()


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
        assert alone.table.iloc[0].equals(result.table.iloc[i])


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
    assert list(result.table.columns) == ["policy", "train_seed", "start", "success", "score", "length"]
    assert result.table["length"].tolist() == [2, 2] and result.table["success"].tolist() == [0, 0]
    assert result.table["score"].tolist() == untouched_scores([0, 1])


def untouched_scores(start_seeds):
    """Scores of blocks that nobody touched."""
    task = PushT(len(start_seeds))
    task.reset(task.starts(start_seeds))
    return task.score.tolist()
