"""HDF5: robomimic's files (Mandlekar et al. 2021) both ways, and Minari's `main_data.hdf5` to read.

robomimic: groups data/demo_i with `actions`, `obs/KEY`, `states`, ... Minari: groups episode_i with `observations` (one
row more than `actions`; the last one is dropped), `rewards`, ...; its pictures lie encoded as JPEG.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ilbook.data.files import check_there, parse, readable
from ilbook.errors import UserError
from ilbook.formats.stream import Column, Stream, decoded, from_parts

NAME = "robomimic or Minari HDF5"
MAGIC = b"\x89HDF\r\n\x1a\n"
MINARI_FILES = ("data/main_data.hdf5", "main_data.hdf5")
# Our names -> theirs; everything else is named by its path, without its first part if that says observation.
MINARI = {
    "action": "actions", "obs": "observations", "reward": "rewards",
    "terminated": "terminations", "truncated": "truncations",
}  # fmt: skip
ROBOMIMIC = {"action": "actions", "state": "states", "reward": "rewards", "done": "dones"}
ASIDE = ("next_obs/", "infos/")  # what can be derived, or is not meant for learning: only if asked for
OURS = "ilbook"  # attribute of the group `data` with what robomimic has no place for
DAMAGES = (OSError, RuntimeError, KeyError)  # what h5py raises
ENCODED = (b"\xff\xd8\xff", b"\x89PNG")  # how JPEG and PNG begin


def recognise(path: Path) -> bool:
    if path.is_dir():
        said = ((path / name).with_name("metadata.json") for name in MINARI_FILES)
        return any((path / name).is_file() for name in MINARI_FILES) or any(
            b'"data_format"' in file.read_bytes() for file in said if file.is_file()
        )
    with path.open("rb") as file:
        return file.read(8) == MAGIC or path.suffix in (".hdf5", ".h5")


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a file of robomimic or a file or folder of Minari; it closes when the stream is gone."""
    import h5py

    file = next((file for file in (path, *(path / name for name in MINARI_FILES)) if file.is_file()), None)
    if file is None:
        remedy = "write it anew with minari's data_format='hdf5'"
        raise UserError(f"{path.name} is Minari's arrow or parquet, of which only HDF5 can be read; {remedy}")
    with readable(file.name, "HDF5 file", *DAMAGES):
        opened = h5py.File(file, "r")
        try:
            return replace(_stream(file, opened, arrays), close=opened.close)
        except BaseException:  # else the file stays locked for as long as somebody looks at the error
            opened.close()
            raise


def _stream(file: Path, opened: Mapping, arrays: Iterable[str] | None) -> Stream:
    minari = "data" not in opened
    inside, stem = (opened, "episode") if minari else (opened["data"], "demo")
    below = [name for name in inside if isinstance(inside.get(name), Mapping)] if isinstance(inside, Mapping) else []
    numbers = sorted(int(match[1]) for name in below if (match := re.fullmatch(rf"{stem}_(\d+)", name)))
    if not numbers:
        neither = "has neither data/demo_0 (robomimic) nor episode_0 (Minari)"
        raise UserError(f"{file.name}: {neither}; its layout is not known")
    ours = parse(inside.attrs.get(OURS, "{}"), f"{file.name}: attribute '{OURS}'")
    meta = {**ours.get("meta", {}), "source": file.name, "format": "minari" if minari else "robomimic"}
    meta |= {key: str(inside.attrs[key]) for key in ("env_args",) if key in inside.attrs}
    groups = [inside[f"{stem}_{number}"] for number in numbers]
    episodes = [(f"{file.name}{group.name}", _leaves(group)) for group in groups]
    paths = _paths(episodes, ours.get("arrays") or (MINARI if minari else ROBOMIMIC))

    def parts(name: str) -> list:
        for place, found in episodes:
            check_there([paths[name]], found, place)
        return [_part(f"{place}/{paths[name]}", found[paths[name]]) for place, found in episodes]

    actions = parts("action")
    for (place, array), group in zip(actions, groups, strict=True):
        if not (n := (*array.shape, 0)[0]):
            raise UserError(f"{place} has no rows; an episode must not be empty")
        if (said := group.attrs.get("num_samples", n)) != n:
            raise UserError(f"{place} has {n} rows, but num_samples says {said}")
    ends = np.cumsum([array.shape[0] for _, array in actions])
    aside = {name: "taken only if --arrays names it" for name, path in paths.items() if path.startswith(ASIDE)}
    there = [f"/{name}" for name in opened] + ([] if minari else [f"/data/{name}" for name in inside])
    others = {*there} - {"/data", *(group.name for group in groups)}
    aside |= dict.fromkeys(sorted(others), f"it lies outside the groups {stem}_NUMBER")
    return from_parts(paths, parts, ends, meta, file.name, arrays, per_episode=True, aside=aside)


def _leaves(group: Mapping, above: str = "") -> dict:
    """Path -> array for all that a nested group holds."""
    found = {}
    for key in group:
        value = group.get(key)  # None for a link that leads nowhere
        found |= _leaves(value, f"{above}{key}/") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _part(place: str, found) -> tuple:
    """What lies at a path as an array, of pictures if it holds encoded ones; UserError if it is none."""
    if getattr(found, "shape", None) is None or not hasattr(found, "dtype"):
        raise UserError(f"{place} is a link that leads nowhere, or empty")
    bytes_like = (found.dtype.kind, found.ndim) == ("O", 1) or (found.dtype, found.ndim) == (np.uint8, 2)
    first = found[0] if bytes_like and len(found) else None
    pictures = isinstance(first, np.ndarray) and first.tobytes().startswith(ENCODED)
    return place, _Pictures(place, found) if pictures else found


class _Pictures:
    """Encoded pictures, each bytes of its own length (or, by chance, of one), as an array (T, H, W, C)."""

    def __init__(self, place: str, rows):
        self._place, self._rows = place, rows
        self._column = Column.of(decoded([rows[0].tobytes()], place, 0))
        self.dtype, self.shape = self._column.dtype, (len(rows), *self._column.shape)

    def __getitem__(self, at: slice) -> np.ndarray:
        return decoded((row.tobytes() for row in self._rows[at]), self._place, at.start, self._column)


def _paths(episodes: list[tuple[str, dict]], known: dict[str, str]) -> dict[str, str]:
    """Array -> path for all that any episode holds; a name that is taken leaves a path its own."""
    found = dict.fromkeys(path for _, arrays in episodes for path in arrays)
    named = {name: path for name, path in known.items() if path in found or name == "action"}
    for path in found:
        if path not in named.values():
            name = re.sub("^(obs|observations)/", "", path).replace("/", ".")
            named[path.replace("/", ".") if name in named else name] = path
    return named


def write(stream: Stream, path: Path) -> None:
    """Write a stream as a file of robomimic; obs/KEY are all arrays but action, state, reward and done."""
    import h5py

    paths = {name: ROBOMIMIC.get(name, f"obs/{name}") for name in stream.columns}
    if "state" in paths and not any(path.startswith("obs/") for path in paths.values()):
        paths["state"] = "obs/state"  # robomimic learns from obs alone
    meta, spans = {key: value for key, value in stream.meta.items() if key != "env_args"}, stream.spans
    environment = {"env_name": str(meta.get("env_name", "ilbook")), "type": 2, "env_kwargs": {}}
    with _Disk(path, "w+") as disk, h5py.File(disk, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = stream.n_steps
        data.attrs["env_args"] = stream.meta.get("env_args") or json.dumps(environment)
        data.attrs[OURS] = json.dumps({"meta": meta, "arrays": paths})
        for index, (start, end) in enumerate(spans):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = end - start
            for name, column in stream.columns.items():
                # Pictures compress tenfold; positions hardly at all.
                packed = {"chunks": (1, *column.shape), "compression": "gzip", "compression_opts": 1}
                options = packed if column.is_picture else {}
                demo.create_dataset(paths[name], (end - start, *column.shape), column.dtype, **options)
            disk.check()
        for block in stream.watched("export"):
            first = block.start - spans[block.episode][0]
            for name, part in block.arrays.items():
                data[f"demo_{block.episode}"][paths[name]][first : first + len(part)] = part
            disk.check()
        file.close()
        disk.check()


class _Disk(io.FileIO):
    """A file that takes every write and says later that one failed: if HDF5 sees it fail, the program crashes."""

    failed: BaseException | None = None

    def write(self, content) -> int:
        rest = memoryview(content)
        while len(rest) and self.failed is None:
            rest = rest[self._tried(super().write, rest) :]
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        return self._tried(super().truncate, size)

    def _tried(self, do: Callable, what) -> int:
        try:
            return do(what) if self.failed is None else 0
        except BaseException as error:  # an interrupt too
            self.failed = error
            return 0

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed
