"""Episodes on disk: one .npz, or a folder of plain .npy files for sets larger than memory; checked when read.

Both carry a header (JSON) with a schema version. Version 1, the .npz files that `save` writes, has no such entry: its
header is the free `meta`. Version 2 has fps and task texts beside it.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.paths import write_file

# Positions in 15 micrometre steps: far below what a servo can follow, and the files compress to half.
RESOLUTION = 2.0**-16
SCHEMA = 2  # newest version of the header
HEADER = "ilbook.json"  # in a folder; in an .npz the header is the array 'meta'
STANDARD = ("fps", "tasks")  # what the header says beside the free meta


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
    """Read episodes, from a folder memory-mapped. `columns` are the arrays that must be there, each (T, width).

    UserError for what is missing, truncated, of another or a newer schema, not finite, or of lengths that differ.
    """
    arrays, ends, meta = contents(path)
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


def contents(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:
    """Arrays, episode_ends and meta as they are stored; their values are not looked at."""
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        return _read_npz(path)
    raise UserError(f"{path.name}: there is no such file; make it with 'ilbook data make {path.stem}'")


def _read_npz(path: Path) -> tuple[dict, np.ndarray, dict]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, KeyError, AttributeError) as error:
        raise UserError(f"{path.name}: not a readable .npz of plain arrays ({error}); it may be cut short") from None
    try:
        ends, header = arrays.pop("episode_ends"), json.loads(str(arrays.pop("meta")))
    except KeyError as missing:
        raise UserError(f"{path.name}: array {missing} is missing; this is not a file of episodes") from None
    except json.JSONDecodeError:
        raise UserError(f"{path.name}: array 'meta' does not hold JSON; this is not a file of episodes") from None
    return arrays, ends, meta_of(header, path.name)


def _read_folder(folder: Path) -> tuple[dict, np.ndarray, dict]:
    where = f"{folder.name}/{HEADER}"
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{where} is missing; this is not a folder of episodes") from None
    except ValueError:
        raise UserError(f"{where} does not hold JSON; it may be cut short") from None
    if not isinstance(header, dict) or "schema" not in header:  # folders came with version 2
        raise UserError(f"{where}: says no schema; this is not a folder of episodes")
    meta = meta_of(header, where)
    try:
        ends, listed = np.array(header["episode_ends"]), header["arrays"]
        wanted = {name: (entry["file"], entry["dtype"], tuple(entry["shape"])) for name, entry in listed.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: 'episode_ends' or 'arrays' is missing or malformed ({error})") from None
    arrays = {}
    for name, (file, dtype, shape) in wanted.items():
        at = f"{folder.name}/{file}"
        try:
            array = np.load(folder / Path(file).name, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"{at} is missing, but {HEADER} lists it") from None
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{at}: not a readable .npy ({error}); it may be cut short") from None
        if array.dtype.str != dtype or array.shape != shape:
            raise UserError(
                f"{at}: holds {array.dtype.str} of shape {array.shape}, but {HEADER} says {dtype} of {shape}"
            )
        arrays[name] = array
    return arrays, ends, meta


def header_of(meta: dict) -> dict:
    """The header that says `meta`."""
    free = {key: value for key, value in meta.items() if key not in STANDARD}
    return {"schema": SCHEMA, "fps": meta.get("fps"), "tasks": meta.get("tasks", []), "meta": free}


def meta_of(header: object, where: str) -> dict:
    """What a header of any version says, as `Episodes.meta`; UserError if it is newer than this program."""
    version = header.get("schema", 1) if isinstance(header, dict) else None
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{where}: holds no header of episodes; this is not a data set of ilbook")
    if version > SCHEMA:
        raise UserError(f"{where}: has schema {version}, but this ilbook reads up to {SCHEMA}; install a newer ilbook")
    while version < SCHEMA:
        header, version = MIGRATIONS[version](header), version + 1
    standard = {key: header[key] for key in STANDARD if header.get(key)}
    return {**header.get("meta", {}), **standard}


def _from_1(header: dict) -> dict:
    """Version 1 was the free meta itself; an fps or tasks in it meant the same as now."""
    return header_of(header)


# Version -> what makes a header of the next version from it.
MIGRATIONS: dict[int, Callable[[dict], dict]] = {1: _from_1}


def _rounded(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return (np.round(array.astype(np.float64) / RESOLUTION) * RESOLUTION).astype(np.float32)
