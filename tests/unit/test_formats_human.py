"""The human PushT demonstrations in our conventions; evidence from data that nobody here made."""

from pathlib import Path

import numpy as np
import pytest

from ilbook import formats
from ilbook.data import Episodes, files
from ilbook.errors import UserError
from ilbook.formats import human
from ilbook.tasks.pusht import RECTANGLES, PushT, overlap, to_block


def published() -> Path:
    """The zarr store, where the reader keeps it."""
    path = human.find()
    if path is None:
        pytest.skip("the human PushT data are not here; ILBOOK_HUMAN_PUSHT can name the zarr folder")
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Episodes:
    target = tmp_path_factory.mktemp("human") / "human.npz"
    formats.import_(published(), target, arrays=["state", "action", "keypoint", "n_contacts"])
    return files.read(target)


@pytest.fixture(scope="module")
def ours(raw) -> Episodes:
    return human.pusht(raw)


def test_all_of_it_is_imported_as_numcodecs_alone_would_read_it(raw):
    from numcodecs import get_codec

    assert (len(raw), raw.n_steps) == (206, 25_650)
    assert {name: (array.shape[1:], array.dtype.name) for name, array in raw.arrays.items()} == {
        "action": ((2,), "float32"),
        "keypoint": ((9, 2), "float32"),
        "n_contacts": ((1,), "float32"),
        "state": ((5,), "float32"),
    }
    codec = get_codec({"id": "blosc"})
    for number in (0, 77, 159):
        chunk = codec.decode((published() / "data" / "state" / f"{number}.0").read_bytes())
        rows = np.frombuffer(chunk, np.float32).reshape(161, 5)
        here = raw["state"][161 * number : 161 * (number + 1)]
        assert np.array_equal(here, rows[: len(here)])


def test_human_data_are_in_the_conventions_of_our_task(ours):
    assert {name: array.shape[1] for name, array in ours.arrays.items()} == {"state": 7, "action": 2, "obs": 18}
    assert all(array.dtype == np.float32 for array in ours.arrays.values()) and ours.meta["fps"] == 10
    state = ours["state"]
    assert (np.abs(state[:, 4]) <= np.float32(np.pi)).all()
    assert (state[:, :4] > 0).all() and (state[:, :4] < 0.512).all()
    assert np.allclose(ours["obs"], PushT.observe(state.astype(np.float64)), atol=1e-6)
    first = ours.starts
    assert np.array_equal(state[first, 5:], state[first, :2])
    later = np.setdiff1d(np.arange(ours.n_steps), first)
    assert np.array_equal(state[later, 5:], ours["action"][later - 1])
    # The pusher follows its command: it is nearer to the command of the step before than to where it was then.
    behind = np.linalg.norm(state[later, :2] - state[later, 5:], axis=1)
    moved = np.linalg.norm(state[later, 5:] - state[later - 1, :2], axis=1)
    fast = moved > 0.02
    assert (behind[fast] < moved[fast]).mean() > 0.95


def shifted(ours: Episodes, millimetres: float) -> np.ndarray:
    """Last poses (E, 3) with the centre of mass moved along the block's own axis."""
    last = ours["state"][ours.episode_ends - 1, 2:5].astype(np.float64)
    down = np.stack([np.sin(last[:, 2]), -np.cos(last[:, 2])], axis=1)
    return np.concatenate([last[:, :2] + millimetres / 1000 * down, last[:, 2:]], axis=1)


def test_blocks_end_on_the_target_with_this_offset_and_no_other(ours):
    """The demonstrators covered the target: sign and size of the offset follow from where the blocks end."""
    covered = np.median(overlap(shifted(ours, 0.0)))
    assert covered > 0.84
    tried = np.arange(-30.0, 31.0)  # millimetres away from ours
    found = [np.median(overlap(shifted(ours, wrong))) for wrong in tried]
    assert abs(tried[np.argmax(found)]) <= 2 and found[0] < 0.5 > found[-1]
    assert np.median(overlap(shifted(ours, -2 * 1000 * human.ORIGIN_TO_CENTRE))) < 0.3  # the other sign


def test_the_recorded_keypoints_lie_on_the_block(raw, ours):
    """Nine points that the original fixed to the block, measured by others in pixels with y downwards."""
    points = np.stack([raw["keypoint"][..., 0], 512 - raw["keypoint"][..., 1]], axis=-1).astype(np.float64) / 1000
    local = to_block(points, ours["state"][:, 2:5].astype(np.float64))
    assert local.std(axis=0).max() < 1e-4, "they do not move in the block's frame"
    outside = np.maximum(RECTANGLES[:, [0, 2]] - local[:, :, None], local[:, :, None] - RECTANGLES[:, [1, 3]])
    distance = np.sqrt((outside.clip(0.0) ** 2).sum(-1)).min(-1)
    assert distance.max() < 0.004  # they were picked on a coarse picture
    low, high = local.mean(axis=0).min(axis=0), local.mean(axis=0).max(axis=0)
    assert np.abs(low - [-0.060, -0.07929]).max() < 0.004 and np.abs(high - [0.060, 0.04071]).max() < 0.004


def made(**change) -> Episodes:
    state = np.array([[100, 200, 256, 256, np.pi / 4], [110, 200, 256, 256, np.pi / 4]], np.float32)
    action = np.array([[120, 210], [130, 220]], np.float32)
    return Episodes({"state": state, "action": action, **change}, np.array([2]))


def test_the_published_goal_becomes_our_target():
    from ilbook.tasks.pusht import TARGET

    found = human.pusht(made())
    assert np.allclose(found["state"][0, 2:5], TARGET, atol=1e-4) and overlap(found["state"][:1, 2:5])[0] > 0.998
    assert np.allclose(found["state"][1], [0.110, 0.312, *TARGET, 0.120, 0.302], atol=1e-4)


def test_other_data_are_refused():
    with pytest.raises(UserError, match=r"array 'state' has shape \(2, 3\); the human PushT data have \(steps, 5\)"):
        human.pusht(made(state=np.ones((2, 3), np.float32)))
    with pytest.raises(UserError, match="holds no pixels"):
        human.pusht(made(state=np.ones((2, 5), np.float32)))
    with pytest.raises(UserError, match="unknown array 'state'"):
        human.pusht(Episodes({"action": np.ones((2, 2))}, np.array([2])))
