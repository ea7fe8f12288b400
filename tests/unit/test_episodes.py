"""Demonstrations as flat arrays, the windows cut from them, and their scaling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ilbook import used
from ilbook.data.episodes import Episodes
from ilbook.data.normalise import Normaliser
from ilbook.data.windows import Windows
from ilbook.errors import UserError


def some(lengths=(4, 1, 3)) -> Episodes:
    """Episodes whose numbers tell where they stand: obs = step, action = episode, step in it."""
    ends = np.cumsum(lengths)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(n) for n in lengths])
    action = np.column_stack([episode, step]).astype(np.float32)
    return Episodes({"obs": np.arange(ends[-1], dtype=np.float32)[:, None], "action": action}, ends, {"from": "here"})


def test_counts_and_views():
    episodes = some()
    assert (len(episodes), episodes.n_steps) == (3, 8)
    assert episodes.starts.tolist() == [0, 4, 5] and episodes.lengths.tolist() == [4, 1, 3]
    assert episodes.episode(2)["obs"].ravel().tolist() == [5, 6, 7]
    assert np.shares_memory(episodes.episode(2)["obs"], episodes["obs"])
    assert [len(episode["action"]) for episode in episodes] == [4, 1, 3]


def test_select_keeps_the_order_that_was_asked_for():
    chosen = some().select([2, 0])
    assert chosen.episode_ends.tolist() == [3, 7]
    assert chosen["obs"].ravel().tolist() == [5, 6, 7, 0, 1, 2, 3]
    assert chosen.meta == {"from": "here"}
    with pytest.raises(UserError, match="at least one"):
        some().select([])


def test_with_array_leaves_the_original_alone():
    episodes = some()
    more = episodes.with_array("reward", np.zeros(8))
    assert set(more.arrays) == {"obs", "action", "reward"} and set(episodes.arrays) == {"obs", "action"}
    with pytest.raises(UserError, match=r"'reward' has .*7.* steps, but the last episode ends at 8"):
        episodes.with_array("reward", np.zeros(7))


def test_an_unknown_array_gives_the_nearest_name():
    with pytest.raises(UserError, match="unknown array 'actions'; nearest valid name: 'action'"):
        some()["actions"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ends": np.array([4, 4, 8])}, r"episode_ends\[1\] is 4, not after 4"),
        ({"ends": np.array([0, 8])}, r"episode_ends\[0\] is 0, not after 0"),
        ({"ends": np.array([8, 4])}, r"episode_ends\[1\] is 4, not after 8"),
        ({"ends": np.array([], dtype=int)}, "episode_ends must be a list of whole numbers"),
        ({"ends": np.array([4.0, 8.0])}, "episode_ends must be a list of whole numbers, not float64"),
        ({"ends": np.array(8)}, "episode_ends must be a list of whole numbers"),
        ({"ends": np.array([4, 9])}, "has .*8.* steps, but the last episode ends at 9"),
        ({"obs": np.zeros((7, 1))}, "array 'obs' has .*7.* steps, but the last episode ends at 8"),
        ({"obs": np.float64(1)}, "array 'obs' has no steps"),
        ({"obs": np.where(np.arange(16).reshape(8, 2) == 11, np.nan, 0)}, r"'obs' holds nan at index \(5, 1\)"),
        ({"action": np.where(np.arange(8) == 3, -np.inf, 0)}, r"'action' holds -inf at index \(3,\)"),
    ],
)
def test_broken_episodes_are_refused(change, sentence):
    arrays = {"obs": np.zeros((8, 2)), "action": np.zeros((8, 2))} | {k: v for k, v in change.items() if k != "ends"}
    with pytest.raises(UserError, match=sentence):
        Episodes(arrays, change.get("ends", np.array([4, 8])))


def test_episodes_need_actions():
    with pytest.raises(UserError, match="need an array 'action'; there are obs"):
        Episodes({"obs": np.zeros((3, 1))}, np.array([3]))


# -- windows ----------------------------------------------------------------------------------------------------------
def test_windows_repeat_at_the_edges():
    seen, future, valid, past, past_valid = Windows(n_obs=3, horizon=3, n_past=2).indices(some())
    assert seen[:5].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [4, 4, 4]]
    assert future[2:6].tolist() == [[2, 3, 3], [3, 3, 3], [4, 4, 4], [5, 6, 7]]
    assert valid[2:6].tolist() == [[True, True, False], [True, False, False], [True, False, False], [True] * 3]
    assert past[:5].tolist() == [[0, 0], [0, 0], [0, 1], [1, 2], [4, 4]]
    assert past_valid[:5].tolist() == [[False, False], [False, True], [True, True], [True, True], [False, False]]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 9), st.integers(0, 4))
def test_windows_stay_in_their_episode(lengths, n_obs, horizon, n_past):
    episodes = some(lengths)
    rows = Windows(n_obs, horizon, n_past).indices(episodes)
    assert rows.obs.shape == (episodes.n_steps, n_obs) and rows.past.shape == rows.past_valid.shape[:1] + (n_past,)
    assert rows.action.shape == rows.valid.shape == (episodes.n_steps, horizon)
    owner, step = episodes["action"].T.astype(int)
    assert all((owner[index] == owner[:, None]).all() for index in (rows.obs, rows.action, rows.past))
    assert np.array_equal(rows.obs[:, -1], np.arange(episodes.n_steps)) and rows.valid[:, 0].all()
    assert np.array_equal(step[rows.obs], np.maximum(step[:, None] + np.arange(1 - n_obs, 1), 0))
    left = episodes.lengths[owner] - step
    assert np.array_equal(rows.valid.sum(axis=1), np.minimum(left, horizon))
    assert np.array_equal(step[rows.action], step[:, None] + np.minimum(np.arange(horizon), left[:, None] - 1))
    assert np.array_equal(rows.past_valid.sum(axis=1), np.minimum(step, n_past))
    assert np.array_equal(step[rows.past], np.maximum(step[:, None] + np.arange(-n_past, 0), 0))


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-2, 3), (1, 1, -1)])
def test_empty_windows_are_refused(sizes):
    with pytest.raises(UserError, match="a window needs n_obs >= 1, horizon >= 1 and n_past >= 0, not"):
        Windows(*sizes)


# -- scaling ----------------------------------------------------------------------------------------------------------
def test_normaliser_maps_the_range_of_the_data():
    values = np.array([[0.0, -3.0], [4.0, 1.0], [1.0, 0.0]])
    normaliser = Normaliser(2).fit(values)
    scaled = normaliser(torch.tensor(values, dtype=torch.float32))
    torch.testing.assert_close(scaled, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-0.5, 0.5]]))
    torch.testing.assert_close(normaliser.inverse(scaled), torch.tensor(values, dtype=torch.float32))


def test_a_constant_dimension_is_only_centred():
    values = np.column_stack([np.linspace(0, 1, 5), np.full(5, 0.7) + 1e-6 * np.arange(5)])
    scaled = Normaliser(2).fit(values)(torch.tensor(values, dtype=torch.float32))
    assert scaled[:, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert scaled[:, 1].abs().max() < 1e-5


def test_a_normaliser_says_whether_it_knows_a_range():
    normaliser = Normaliser(2)
    assert not normaliser.fitted and torch.equal(normaliser(torch.ones(3, 2)), torch.ones(3, 2))
    with used.collected() as parts:
        normaliser.fit(np.zeros((3, 2)))
    assert normaliser.fitted and parts == {"data.normalise"}
    other = Normaliser(2)
    other.load_state_dict(normaliser.state_dict())
    assert other.fitted
