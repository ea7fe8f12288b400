"""Demonstrations from and to the formats that the field uses; the functions behind `ilbook data import` and `export`.

    import_("pusht_cchi_v7_replay.zarr", "human.npz", arrays=["state", "action"])
    export("pusht", "pusht_lerobot", "lerobot")

Nothing is rounded or converted on the way, and everything is read and written block by block, so that a set may be
larger than memory. One format is one module with NAME, `recognise(path)` and `stream(path, arrays)`, and, where it can
be written, `write(stream, path)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from ilbook.errors import UserError, unknown
from ilbook.formats import hdf5, lerobot, lerobot_read, lerobot_write, native, place, replay
from ilbook.formats.recordings import from_episode_list
from ilbook.formats.stream import Progress, Stream, bar, from_episodes

__all__ = ["FORMATS", "bar", "export", "from_episode_list", "import_"]

# In the order in which a path is tried: (its name, whether a path is of this format, how it is opened).
READERS = (
    (native.NAME, native.recognise, native.stream),
    (replay.NAME, replay.recognise, replay.stream),
    (lerobot.NAME, lerobot.recognise, lerobot_read.stream),
    (hdf5.NAME, hdf5.recognise, hdf5.stream),
)
FORMATS = {"lerobot": lerobot_write.write, "zarr": replay.write, "hdf5": hdf5.write}  # what `export` writes
FOREIGN = (".zarr", ".zip", ".hdf5", ".h5", ".parquet")  # names that promise another format than ours


def import_(
    source: str | Path,
    target: str | Path,
    force: bool = False,
    progress: Progress | None = None,
    arrays: Iterable[str] | None = None,
    fps: float | None = None,
) -> dict:
    """Convert a data set of any known format to our own: an .npz, or, if `target` has another name, a folder.

    `arrays`: only these and 'action'. `fps`: where the source does not say. Returns what was written; UserError leaves
    the target as it was.
    """
    source, target, arrays = Path(source), Path(target), _names(arrays)
    if target.suffix in FOREIGN:
        raise UserError(f"{target.name}: import writes .npz files or folders; to write {target.suffix} use export")
    place.check(target, force, source, _is_data)
    stream = _with_fps(_open(source, arrays), fps)
    return _convert(stream, source, target, force, progress, native.write, as_file=target.suffix == ".npz")


def export(
    source: str | Path,
    target: str | Path,
    format: str,
    force: bool = False,
    progress: Progress | None = None,
    arrays: Iterable[str] | None = None,
    fps: float | None = None,
    video: bool = False,
) -> dict:
    """Convert a data set, or the shipped one of that name, to `format`: lerobot, zarr or hdf5.

    Pictures stay exact; `video` (lerobot only) makes h264 of them, smaller and with small errors. The rest as in
    `import_`.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if video and format != "lerobot":
        raise UserError(f"video is for the format lerobot; {format} stores pictures as arrays")
    source, target, arrays = Path(source), Path(target), _names(arrays)
    if target.suffix == ".npz":
        raise UserError(f"{target.name}: export writes {format}; to write .npz use import")
    place.check(target, force, source, _is_data)
    # A folder of demonstrations may bear the name of a shipped set without being one itself.
    is_path = source.exists() and (_is_data(source) or not _is_shipped(source))
    stream = _open(source, arrays) if is_path else _shipped(source, arrays)
    options = {"video": True} if video else {}
    return _convert(_with_fps(stream, fps), source, target, force, progress, FORMATS[format], **options)


def _convert(stream: Stream, source: Path, target: Path, force, progress, write, **options) -> dict:
    with place.fresh(target, force, source, _is_data) as path:
        write(stream.counted(progress), path, **options)
    said = {"written": str(target), "episodes": len(stream.ends), "steps": stream.n_steps}
    return {**said, "arrays": list(stream.columns), "fps": stream.meta.get("fps")}


def _names(arrays: Iterable[str] | None) -> list[str] | None:
    if isinstance(arrays, str):
        raise UserError(f"arrays is a list of names, not the text {arrays!r}; write [{arrays!r}]")
    return None if arrays is None else list(arrays)


def _is_data(path: Path) -> bool:
    try:
        return any(recognise(path) for _, recognise, _ in READERS)
    except OSError:
        return False


def _open(source: Path, arrays: Iterable[str] | None) -> Stream:
    if not source.exists():
        beside = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
        raise UserError(f"there is no {source}{_nearest(source.name, beside)}")
    try:
        for _, recognise, stream in READERS:
            if recognise(source):
                return stream(source, arrays)
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror or error}") from None
    known = ", ".join(name for name, _, _ in READERS)
    raise UserError(f"{source} is no data set of a format known here; known are: {known}")


def _nearest(name: str, others: Iterable[str]) -> str:
    near = get_close_matches(name, list(others), 1, 0.5)
    return f"; did you mean {near[0]}?" if near else "; check the path"


def _with_fps(stream: Stream, fps: float | None) -> Stream:
    if fps is None:
        return stream
    if not fps > 0:
        raise UserError(f"fps is {fps}; it must be a number of frames a second")
    return replace(stream, meta={**stream.meta, "fps": int(fps) if fps == int(fps) else fps})


def _is_shipped(source: Path) -> bool:
    from ilbook.data import manifest

    return str(source) in manifest.entries()


def _shipped(source: Path, arrays: Iterable[str] | None) -> Stream:
    """A data set of the book by its name, with its observations, its frame rate and what its numbers mean."""
    from ilbook import tasks
    from ilbook.data import manifest

    name, entries = str(source), manifest.entries()
    if name not in entries:
        beside = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
        listed = ", ".join(entries) or "none"
        raise UserError(
            f"there is no {name}, neither as a path nor among the shipped data sets ({listed})"
            f"{_nearest(source.name, [*entries, *beside])}"
        )
    task = tasks.get(entries[name]["task"])
    episodes = manifest.load(name, pictures=arrays is None or "image" in arrays)
    rate = task.control_hz
    said = {
        "fps": int(rate) if rate == int(rate) else rate,
        "tasks": [(task.__doc__ or task.name).strip().partition("\n")[0]],
        "names": {"state": list(task.state_names), "obs": list(task.obs_names)},
        "source": name,
        "env_name": task.gym_id,
    }
    return from_episodes(replace(episodes, meta={**episodes.meta, **said}), arrays)
