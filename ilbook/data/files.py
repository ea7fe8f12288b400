"""Episodes on disk: one .npz of plain arrays, checked when read, never half-written."""

from __future__ import annotations

import json
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.profile import write_file

# Positions in 15 micrometre steps: far below what a servo can follow, and the files compress to half.
RESOLUTION = 2.0**-16


def save(path: Path, episodes: Episodes) -> None:
    """Write episodes; floating-point arrays are rounded to `RESOLUTION` and stored as float32."""
    arrays = {name: _rounded(array) for name, array in episodes.arrays.items()}
    buffer = BytesIO()
    np.savez_compressed(
        buffer, **arrays, episode_ends=episodes.episode_ends.astype(np.int64), meta=np.array(json.dumps(episodes.meta))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, buffer.getvalue())


def read(path: Path, columns: dict[str, int] | None = None) -> Episodes:
    """Read episodes. `columns` are the arrays that must be there, each (T, width).

    UserError for a file that is missing, truncated, of another schema, not finite, or whose lengths do not match.
    """
    if not path.is_file():
        raise UserError(f"{path.name}: there is no such file; make it with 'ilbook data make {path.stem}'")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, KeyError) as error:
        raise UserError(f"{path.name}: not a readable .npz of plain arrays ({error}); it may be cut short") from None
    try:
        ends, meta = arrays.pop("episode_ends"), json.loads(str(arrays.pop("meta")))
    except KeyError as missing:
        raise UserError(f"{path.name}: array {missing} is missing; this is not a file of episodes") from None
    except json.JSONDecodeError:
        raise UserError(f"{path.name}: array 'meta' does not hold JSON; this is not a file of episodes") from None
    for name, width in (columns or {}).items():
        if name not in arrays:
            raise UserError(f"{path.name}: array '{name}' is missing; there are {', '.join(sorted(arrays)) or 'none'}")
        array = arrays[name]
        if array.ndim != 2 or array.shape[1] != width or array.dtype != np.float32:
            found = f"{array.dtype} of shape {array.shape}"
            raise UserError(f"{path.name}: array '{name}' is {found}; it must be float32 of shape (steps, {width})")
    try:
        return Episodes(arrays, ends, meta)
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def _rounded(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return (np.round(array.astype(np.float64) / RESOLUTION) * RESOLUTION).astype(np.float32)
