"""Figures of demonstrations, on data whose answers are known."""

import numpy as np
import pytest

from ilbook.data.describe import describe, disagreement
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError


def made(step, n=20, length=50, seed=0) -> Episodes:
    """Episodes whose target moves by step(rng) (length, 2) in each step; observations are random places."""
    rng = np.random.default_rng(seed)
    action = np.concatenate([np.cumsum(step(rng), axis=0) for _ in range(n)])
    obs = rng.standard_normal((n * length, 3)).astype(np.float32)
    return Episodes({"obs": obs, "action": action.astype(np.float32)}, np.arange(length, n * length + 1, length))


def straight(rng):
    return np.tile([0.01, 0.0], (50, 1))


def test_steady_straight_moves():
    row = describe(made(straight), hz=10)
    assert (row["episodes"], row["steps"], row["seconds"]) == (20, 1000, 5.0)
    assert row["speed"] == pytest.approx(0.1, rel=1e-3)
    assert row["resting"] == row["rests"] == 0
    assert row["turning"] == pytest.approx(0, abs=0.01) and row["disagreement"] == pytest.approx(0, abs=0.01)


def test_rests_are_counted_in_episodes_and_not_across_them():
    def rests_twice(rng):
        moves = straight(rng)
        moves[10:15] = moves[30:34] = 0  # five and four steps
        moves[45] = 0  # too short to be a rest
        return moves

    row = describe(made(rests_twice), hz=10)
    assert row["rests"] == pytest.approx(2) and row["resting"] == pytest.approx(10 / 49, abs=0.002)


def test_zigzag_turns():
    def zigzag(rng):
        return np.stack([np.full(50, 0.01), 0.01 * (-1.0) ** np.arange(50)], axis=1)

    assert describe(made(zigzag), hz=10)["turning"] == pytest.approx(np.pi / 2, abs=0.01)


def test_disagreement_is_the_spread_where_the_data_look_alike():
    def coin(rng):
        return np.stack([0.01 * rng.choice([-1.0, 1.0], 50), np.zeros(50)], axis=1)

    assert disagreement(made(coin)) / 0.01 > 0.7
    assert disagreement(made(straight)) / 0.01 < 0.01
    assert disagreement(made(coin)) == disagreement(made(coin))


def test_what_cannot_be_described_is_refused():
    with pytest.raises(UserError, match="at least two"):
        describe(made(straight, n=1), hz=10)
    bare = made(straight)
    with pytest.raises(UserError, match="without the array 'obs'"):
        describe(Episodes({"action": bare["action"]}, bare.episode_ends), hz=10)
