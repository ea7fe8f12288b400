"""Episodes on disk: one .npz, or a folder of plain .npy files for sets larger than memory; checked when read.

Both say `Episodes.meta` as JSON: an .npz in the array 'meta', a folder in `HEADER`, beside the list of its arrays.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, listed
from ilbook.paths import write_file

# Positions in 15 micrometre steps: far below what a servo can follow, and the files compress to half.
RESOLUTION = 2.0**-16
HEADER = "ilbook.json"  # in a folder
SCHEMA = 3  # of what this program writes; .npz files, whose layout never changed, do not say it


def save(path: Path, episodes: Episodes) -> None:
    """Write episodes; floating-point arrays are rounded to `RESOLUTION` and stored as float32."""
    arrays = {name: _rounded(array) for name, array in episodes.arrays.items()}
    arrays |= {"episode_ends": episodes.episode_ends.astype(np.int64), "meta": np.array(json.dumps(episodes.meta))}
    np.savez_compressed(buffer := BytesIO(), **arrays)
    write_file(path, buffer.getvalue())


def read(path: Path, columns: dict[str, int] | None = None) -> Episodes:
    """Read episodes, from a folder memory-mapped. `columns` are the arrays that must be there, each (T, width).

    UserError for what is missing, truncated, of another schema, not finite, or of lengths that differ.
    """
    arrays, ends, meta = contents(path)
    for name, width in (columns or {}).items():
        check_there([name], arrays, path.name)
        array = arrays[name]
        if array.ndim != 2 or array.shape[1] != width or array.dtype != np.float32:
            found = f"{array.dtype} of shape {array.shape}"
            raise UserError(f"{path.name}: array '{name}' is {found}; it must be float32 of shape (steps, {width})")
    try:
        return Episodes(arrays, ends, meta)
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def contents(
    path: Path, only: set[str] | None = None, objects: bool = False
) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:
    """Arrays, episode_ends and meta as they are stored, their values not looked at; None for arrays not in `only`.

    Python objects are never loaded: an array of them is an error, or with `objects` a single empty one.
    """
    if path.is_dir():
        return _read_folder(path, only)
    if not path.is_file():
        raise UserError(f"{path.name}: there is no such file; make it with 'ilbook data make {path.stem}'")
    damages = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, KeyError, AttributeError)
    with readable(path.name, ".npz of plain arrays", *damages), np.load(path, allow_pickle=False) as stored:
        arrays = {name: _stored(stored, name, objects) if _due(name, only) else None for name in stored.files}
    check_there(["episode_ends", "meta"], arrays, path.name)
    ends, meta = arrays.pop("episode_ends"), parse(str(arrays.pop("meta")), f"{path.name}: array 'meta'")
    return arrays, ends, meta


def _due(name: str, only: set[str] | None) -> bool:
    return only is None or name in only or name in ("action", "episode_ends", "meta")


def _stored(stored: np.lib.npyio.NpzFile, name: str, objects: bool) -> np.ndarray:
    try:
        return stored[name]
    except ValueError as error:
        if not objects or "Object arrays" not in str(error):
            raise
        return np.array(None)


def _read_folder(folder: Path, only: set[str] | None) -> tuple[dict, np.ndarray, dict]:
    where = f"{folder.name}/{HEADER}"
    header = read_json(folder / HEADER, where)
    check_schema(header, where)
    try:
        ends, meta = np.array(header["episode_ends"]), dict(header["meta"])
        stored = {name: Path(said["file"]).name for name, said in header["arrays"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: 'episode_ends', 'meta' or 'arrays' is missing or malformed ({error})") from None
    arrays = dict.fromkeys(stored)
    for name, file in stored.items():
        with readable(f"{folder.name}/{file}", ".npy", ValueError, EOFError, OSError):
            if _due(name, only):
                arrays[name] = np.load(folder / file, mmap_mode="r", allow_pickle=False)
    return arrays, ends, meta


def _rounded(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return (np.round(array.astype(np.float64) / RESOLUTION) * RESOLUTION).astype(np.float32)


# -- sentences about damaged files, for the readers of other formats too -----------------------------------------------
@contextmanager
def readable(where: str, kind: str, *damages: type[Exception]) -> Iterator[None]:
    """What a library raises while it reads a file becomes one sentence; what the system refuses is told apart."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{where} is missing; the data set is not complete") from None
    except damages as error:
        if isinstance(error, BlockingIOError):
            raise UserError(f"{where} is locked: another program has it open; close it there, then run again") from None
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # numpy seeks wrongly in a short one
            raise UserError(f"{where} cannot be read: {os.strerror(error.errno)}; make it readable") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{where}: not a readable {kind} ({reason}); it may be cut short") from None


def check_there(wanted: Iterable[str], there: Iterable[str], where: str) -> None:
    """UserError unless all these arrays are there."""
    there = list(there)
    for name in wanted:
        if name not in there:
            raise UserError(f"{where}: '{name}' is missing; there are {listed(there, 8) or 'none'}")


def check_schema(said: dict, where: str) -> None:
    """UserError for what another version of this program wrote."""
    if (found := said.get("schema")) != SCHEMA:
        raise UserError(f"{where}: has schema {found}, but this ilbook reads {SCHEMA}; convert the data anew")


def parse(text: str | bytes, where: str) -> dict:
    """What a JSON object says; UserError if it is none."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise UserError(f"{where} does not hold JSON, or no object of it; it may be cut short") from None


def read_json(path: Path, where: str) -> dict:
    """The object in a JSON file; UserError if it is missing or damaged."""
    with readable(where, "text"):
        return parse(path.read_bytes(), where)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, all or nothing."""
    write_file(path, json.dumps(content, indent=2) + "\n")
