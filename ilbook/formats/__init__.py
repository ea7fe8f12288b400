"""Demonstrations from and to the formats that the field uses; the functions behind `ilbook data import` and `export`.

    import_("pusht_cchi_v7_replay.zarr", "human.npz", arrays=["state", "action"])
    export("pusht", "pusht_lerobot", "lerobot")

Nothing is rounded or converted on the way, and everything is read and written block by block, so that a set may be
larger than memory. One format is one module with NAME, `recognise(path)` and `stream(path, arrays)`, and, where it can
be written, `write(stream, path)`. One rule holds for all of them: an array that does not fit is left out and named, and
`arrays` (`--arrays`) says what is needed: if that is missing or does not fit, nothing is written (`stream.choose`).
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from ilbook.data import manifest
from ilbook.errors import UserError, listed, unknown
from ilbook.formats import hdf5, lerobot, lerobot_read, lerobot_write, native, place, replay
from ilbook.formats.stream import Stream, from_arrays

# In the order in which a path is tried: (its name, whether a path is of this format, how it is opened).
READERS = (
    (native.NAME, native.recognise, native.stream),
    (replay.NAME, replay.recognise, replay.stream),
    (lerobot.NAME, lerobot.recognise, lerobot_read.stream),
    (hdf5.NAME, hdf5.recognise, hdf5.stream),
)
FORMATS = {"lerobot": lerobot_write.write, "zarr": replay.write, "hdf5": hdf5.write}  # what `export` writes
POINTER_BYTES = 1024  # Git LFS keeps its pointers below
FOREIGN = (".zarr", ".zip", ".hdf5", ".h5", ".parquet")  # names that promise another format than ours


Arrays = Iterable[str] | None


def import_(
    source: str | Path, target: str | Path, force: bool = False, arrays: Arrays = None, fps: float | None = None,
    tolerance: float | None = None,
) -> dict:  # fmt: skip
    """Convert a data set of any known format to our own: an .npz, or, if `target` has another name, a folder.

    `arrays`: only these and 'action'. `fps`: where the source does not say. `tolerance`: seconds that timestamps may be
    off (LeRobot only). Returns what was written and what was left out; UserError leaves the target as it was.
    """
    source, target = Path(source), Path(target)
    if target.suffix in FOREIGN:
        raise UserError(f"{target.name}: import writes .npz files or folders; to write {target.suffix} use export")
    opening = partial(_open, tolerance=tolerance)
    return _convert(opening, source, target, force, arrays, fps, native.write, as_file=target.suffix == ".npz")


def export(
    source: str | Path, target: str | Path, format: str, force: bool = False, arrays: Arrays = None,
    fps: float | None = None, video: bool = False, tolerance: float | None = None,
) -> dict:  # fmt: skip
    """Convert a data set, or the shipped one of that name, to `format`: lerobot, zarr or hdf5.

    Pictures stay exact; `video` (lerobot only) makes h264 of them, smaller and with small errors. The rest as in
    `import_`.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if video and format != "lerobot":
        raise UserError(f"video is for the format lerobot; {format} stores pictures as arrays")
    source, target = Path(source), Path(target)
    if target.suffix == ".npz":
        raise UserError(f"{target.name}: export writes {format}; to write .npz use import")
    # A folder of demonstrations may bear the name of a shipped set without being one itself.
    is_path = source.exists() and (_is_data(source) or str(source) not in manifest.entries())
    options = {"video": True} if video else {}
    opening = partial(_open, tolerance=tolerance) if is_path else _open_shipped
    return _convert(opening, source, target, force, arrays, fps, FORMATS[format], **options)


def _convert(opening: Callable, source: Path, target: Path, force, arrays, fps, write: Callable, **options) -> dict:
    if isinstance(arrays, str):
        raise UserError(f"arrays is a list of names, not the text {arrays!r}; write [{arrays!r}]")
    if fps is not None and not fps > 0:
        raise UserError(f"fps is {fps}; it must be a number of frames a second")
    arrays = arrays if arrays is None else list(arrays)
    try:
        with place.fresh(target, force, source, _is_data) as path, closing(opening(source, arrays)) as stream:
            if fps is not None:
                stream = replace(stream, meta={**stream.meta, "fps": fps})
            path.parent.mkdir(parents=True, exist_ok=True)
            write(stream, path, **options)
    except UserError as error:
        if (truth := _pointed(source, str(error))) != str(error):
            raise UserError(truth) from None
        raise
    left_out = {name: _pointed(source, why) for name, why in stream.left_out.items()}
    said = {"written": str(target), "episodes": len(stream.ends), "steps": stream.n_steps}
    return {**said, "arrays": list(stream.columns), "left_out": left_out, "fps": stream.meta.get("fps")}


def _pointed(source: Path, said: str) -> str:
    """What was said of a file, or, if that is a pointer which a clone without git-lfs left, that it is one."""
    for file in source.rglob("*") if source.is_dir() else [source]:
        small = file.name in said and file.is_file() and file.stat().st_size < POINTER_BYTES
        if small and os.access(file, os.R_OK) and file.read_bytes().startswith(b"version https://git-lfs"):
            where = file.relative_to(source.parent).as_posix()
            return f"{where} is only a pointer of Git LFS; fetch the data with 'git lfs pull'"
    return said


def _is_data(path: Path) -> bool:
    try:
        return any(recognise(path) for _, recognise, _ in READERS)
    except OSError:
        return False


def _open(source: Path, arrays: Arrays, tolerance: float | None = None) -> Stream:
    if not source.exists():
        raise UserError(f"there is no {source}{_nearest(source)}")
    for name, recognise, stream in READERS:
        if recognise(source):
            if tolerance is None:
                return stream(source, arrays)
            if name != lerobot.NAME or not tolerance >= 0:
                raise UserError(f"tolerance is {tolerance}; it is for the seconds of {lerobot.NAME} and not negative")
            return stream(source, arrays, tolerance)
    known = ", ".join(name for name, _, _ in READERS)
    inside = [path.name for path in source.iterdir() if _is_data(path)] if source.is_dir() else []
    hint = f"; inside there is {listed(inside, 3)}" if inside else "; unpack it" if zipfile.is_zipfile(source) else ""
    raise UserError(f"{source} is no data set of a format known here{hint}; known are: {known}")


def _nearest(source: Path, others: Iterable[str] = ()) -> str:
    """A hint for a name that does not exist: what is called nearly so, beside it or among others."""
    beside = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
    near = get_close_matches(source.name, [*others, *beside], 1, 0.5)
    return f"; did you mean {near[0]}?" if near else "; check the path"


def _open_shipped(source: Path, arrays: Arrays) -> Stream:
    """A data set of the book by its name, with its observations, its frame rate and what its numbers mean."""
    from ilbook import data, tasks

    name, entries = str(source), manifest.entries()
    if name not in entries:
        listed, near = ", ".join(entries) or "none", _nearest(source, entries)
        raise UserError(f"there is no {name}, neither as a path nor among the shipped data sets ({listed}){near}")
    task = tasks.get(entries[name]["task"])
    episodes = data.load(name, pictures=arrays is None or "image" in arrays)
    said = {"fps": task.control_hz, "source": name, "env_name": task.gym_id}
    said["tasks"] = [(task.__doc__ or task.name).strip().partition("\n")[0]]
    said["names"] = {"state": list(task.state_names), "obs": list(task.obs_names)}
    return from_arrays(episodes.arrays, episodes.episode_ends, {**episodes.meta, **said}, name, arrays)
