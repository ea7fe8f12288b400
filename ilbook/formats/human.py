"""Human demonstrations that others published, in the book's conventions: metres, y upwards, centre of mass."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.data.files import read, read_json, write_json
from ilbook.errors import UserError
from ilbook.paths import root

PUSHT_ZARR = "pusht_cchi_v7_replay.zarr"  # the name under which it was published
FIGURES = "human_pusht.json"
PUSHT_FPS = 10
MM = 1000.0  # 1 pixel of the original stands for 1 mm
# The original counts the block's pose from the middle of the bar's top edge; from there to the centre of mass of the
# bar (120 x 30, at 15) and the stem (30 x 90, at 75): (3600 * 15 + 2700 * 75) / 6300 pixels along the stem.
ORIGIN_TO_CENTRE = (3600 * 15 + 2700 * 75) / 6300 / MM
COLUMNS = {"state": 5, "action": 2}


def pusht(episodes: Episodes) -> Episodes:
    """The PushT demonstrations of Chi et al. 2023 (state (T, 5) and action (T, 2) in pixels) as data of our PushT.

    Arrays state (T, 7), action (T, 2) and obs (T, 18), float32. The command of a state is the action before it, at
    first the pusher's place. UserError if these are not such data.
    """
    from ilbook.tasks.pusht import WORLD, PushT

    for name, width in COLUMNS.items():
        shape = episodes[name].shape
        if shape[1:] != (width,):
            raise UserError(f"array '{name}' has shape {shape}; the human PushT data have (steps, {width})")
    state, action = episodes["state"].astype(np.float64), episodes["action"].astype(np.float64)
    if state[:, :4].max() < 2:
        raise UserError("array 'state' holds no pixels (all values are below 2); was it converted already?")
    pusher, origin, command = (_to_metres(points, WORLD) for points in (state[:, :2], state[:, 2:4], action))
    angle = (np.pi - state[:, 4]) % (2 * np.pi) - np.pi  # turned over with the y axis, then into [-pi, pi)
    down = np.stack([np.sin(angle), -np.cos(angle)], axis=1)  # from the bar along the stem
    centre = origin + ORIGIN_TO_CENTRE * down
    before = np.concatenate([pusher[:1], command[:-1]])
    before[episodes.starts] = pusher[episodes.starts]
    ours = np.concatenate([pusher, centre, angle[:, None], before], axis=1)
    arrays = {"state": ours, "action": command, "obs": PushT.observe(ours)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return Episodes(arrays, episodes.episode_ends, {**episodes.meta, "fps": PUSHT_FPS})


def _to_metres(points: np.ndarray, world: float) -> np.ndarray:
    return np.stack([points[:, 0] / MM, world - points[:, 1] / MM], axis=1)


def find() -> Path | None:
    """Where the reader keeps the published zarr: ILBOOK_HUMAN_PUSHT, or data/outside/; None if it is not there."""
    named = os.environ.get("ILBOOK_HUMAN_PUSHT")
    path = Path(named) if named else root() / "data" / "outside" / PUSHT_ZARR
    if named and not path.exists():
        raise UserError(f"ILBOOK_HUMAN_PUSHT names {named}, which is not there; correct it, or unset the variable")
    return path if path.exists() else None


def load(path: Path) -> Episodes:
    """The human demonstrations at `path`, without their pictures, as data of our PushT."""
    from ilbook import formats

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "human.npz")
        formats.import_(path, target, arrays=["state", "action"])
        return pusht(read(target))


def figures() -> dict[str, float]:
    """What `describe` says of the human demonstrations; the file is made by `ilbook data describe --human PATH`."""
    return read_json(root() / "data" / FIGURES, f"data/{FIGURES}")["figures"]


def write_figures(path: Path) -> dict[str, float]:
    """Describe the human demonstrations at `path` and record the figures, which are shipped; the data are not."""
    from ilbook.data.describe import describe

    found = describe(load(path), PUSHT_FPS)
    source = "206 human demonstrations of PushT, published with Diffusion Policy (Chi et al. 2023)"
    write_json(root() / "data" / FIGURES, {"source": source, "figures": found})
    return found
