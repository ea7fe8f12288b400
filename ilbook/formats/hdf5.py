"""HDF5: robomimic's files (Mandlekar et al. 2021) both ways, and Minari's `main_data.hdf5` to read.

robomimic: groups data/demo_i with `actions`, `obs/KEY`, `states`, ..., and `mask/NAME` with names of demos. Minari:
groups episode_i with `observations` (one row more than `actions`; the last one is dropped), `rewards`, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ilbook.errors import UserError
from ilbook.formats.stream import (
    Block,
    Column,
    Stream,
    check_action,
    check_finite,
    check_plain,
    choose,
    column_of,
    spans,
)

NAME = "robomimic or Minari HDF5"
MAGIC = b"\x89HDF\r\n\x1a\n"
MINARI_FILES = ("data/main_data.hdf5", "main_data.hdf5")
# Our names -> theirs; everything else is an observation, `obs/NAME`.
ROBOMIMIC = {"action": "actions", "state": "states", "reward": "rewards", "done": "dones"}
MINARI = {
    "obs": "observations", "action": "actions", "reward": "rewards",
    "terminated": "terminations", "truncated": "truncations",
}  # fmt: skip
OURS = "ilbook"  # attribute of the group `data` with what robomimic has no place for


def recognise(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in MINARI_FILES)
    with path.open("rb") as file:
        return file.read(8) == MAGIC or path.suffix in (".hdf5", ".h5")


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a file of robomimic or a file or folder of Minari."""
    file = path if path.is_file() else next(path / name for name in MINARI_FILES if (path / name).is_file())
    with _reading(file) as opened:
        if "data" in opened and not any(name.startswith("episode_") for name in opened):
            return _Layout(file, "data", "demo", opened).stream(opened, arrays)
        if any(re.fullmatch(r"episode_\d+", name) for name in opened):
            return _Layout(file, "", "episode", opened).stream(opened, arrays)
    raise UserError(f"{file.name}: has neither data/demo_0 (robomimic) nor episode_0 (Minari); its layout is not known")


@contextmanager
def _reading(file: Path) -> Iterator:
    """The open file; what goes wrong inside HDF5 becomes one sentence."""
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            yield opened
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(f"{file.name}: not a readable HDF5 file ({error}); it may be cut short") from None


class _Layout:
    """What lies where in one file, checked against the first episode."""

    def __init__(self, file: Path, group: str, stem: str, opened):
        self.file, self.minari = file, stem == "episode"
        inside = opened[group] if group else opened
        numbers = sorted(int(match[1]) for name in inside if (match := re.fullmatch(rf"{stem}_(\d+)", name)))
        if not numbers:
            raise UserError(f"{file.name}: group '{group}' holds no {stem}_0")
        self.keys = [f"{group}/{stem}_{number}".lstrip("/") for number in numbers]
        self.demos = [key.split("/")[-1] for key in self.keys]
        ours = json.loads(inside.attrs.get(OURS, "{}"))
        self.meta, said = ours.get("meta", {}), ours.get("arrays", {})
        paths = _datasets(opened[self.keys[0]])
        check_action(paths, f"{file.name}/{self.keys[0]}", "actions")
        self.paths: dict[str, str] = {}
        listed = {path: name for name, path in said.items()}
        plain = [path for path in listed if path in paths]
        for path in [*plain, *(path for path in paths if path not in listed)]:
            name = listed.get(path) or (_minari_name(path) if self.minari else _robomimic_name(path))
            self.paths[path.replace("/", ".") if name in self.paths else name] = path

    def stream(self, opened, arrays: Iterable[str] | None) -> Stream:
        """Check all episodes, then the stream that reads them one by one."""
        # What can be derived, or is not meant for learning, is left out unless asked for.
        rest = [name for name, path in self.paths.items() if path.startswith(("next_obs/", "infos/"))]
        names = choose([name for name in self.paths if name not in rest], arrays, rest)
        first = opened[self.keys[0]]
        columns = {}
        for name in names:
            dataset, where = first[self.paths[name]], f"{self.file.name}/{self.keys[0]}/{self.paths[name]}"
            if not dataset.shape:
                raise UserError(f"{where} is a single value, not an array over steps; leave it out")
            check_plain(dataset.dtype, where)
            columns[name] = column_of(dataset)
        ends = np.cumsum([self._length(opened, key, columns) for key in self.keys])
        starts = np.concatenate([[0], ends[:-1]])

        def blocks():
            with _reading(self.file) as again:
                for episode, start, stop in spans(ends, columns):
                    low, part = start - starts[episode], {}
                    for name, column in columns.items():
                        dataset = again[self.keys[episode]][self.paths[name]]
                        part[name] = dataset[low : low + stop - start].astype(column.dtype, copy=False)
                        where = f"{self.file.name}/{self.keys[episode]}/{self.paths[name]}"
                        check_finite(part[name], where, int(low))
                    yield Block(episode, start, part)

        return Stream(columns, ends.astype(np.int64), self._meta(opened), blocks)

    def _length(self, opened, key: str, columns: dict[str, Column]) -> int:
        """Steps of one episode; UserError if its arrays differ in length, or in kind from those of the first one."""
        group = opened[key]
        if "actions" not in group:
            raise UserError(f"{self.file.name}/{key}: column 'actions' is missing; the other episodes have it")
        length = len(group["actions"])
        where = f"{self.file.name}/{key}"
        if length == 0:
            raise UserError(f"{where}/actions has no rows; an episode must not be empty")
        if "num_samples" in group.attrs and int(group.attrs["num_samples"]) != length:
            raise UserError(f"{where}/actions has {length} rows, but num_samples says {group.attrs['num_samples']}")
        for name, column in columns.items():
            path = self.paths[name]
            if path not in group:
                raise UserError(f"{where}: column '{path}' is missing; {self.keys[0]} has it")
            dataset = group[path]
            found = column_of(dataset)
            if found != column:
                raise UserError(
                    f"{where}/{path} is {found.dtype} of shape {found.shape} in each row, but {column.dtype} of "
                    f"{column.shape} in {self.keys[0]}"
                )
            more = 1 if self.minari and path.split("/")[0] == "observations" else 0
            if len(dataset) not in (length, length + more):
                wanted = f"{length} or {length + 1}" if more else length
                raise UserError(
                    f"{where}/{path} has {len(dataset)} rows, but actions has {length}; it must be {wanted}"
                )
        return length

    def _meta(self, opened) -> dict:
        meta = {**self.meta, "source": self.file.name, "format": "minari" if self.minari else "robomimic"}
        if self.minari:
            return meta
        if "env_args" in opened["data"].attrs:
            meta["env_args"] = str(opened["data"].attrs["env_args"])
        if "mask" in opened:
            place = {name: index for index, name in enumerate(self.demos)}
            meta["masks"] = {}
            for mask, names in opened["mask"].items():
                members = [name.decode() if isinstance(name, bytes) else str(name) for name in names[:]]
                for row, name in enumerate(members):
                    if name not in place:
                        raise UserError(f"{self.file.name}/mask/{mask}, row {row}: there is no {name} in the file")
                meta["masks"][mask] = [place[name] for name in members]
        return meta


def _datasets(group) -> list[str]:
    """Paths of all arrays below a group."""
    found: list[str] = []
    group.visititems(lambda name, item: found.append(name) if hasattr(item, "dtype") else None)
    return found


def _robomimic_name(path: str) -> str:
    theirs = {column: name for name, column in ROBOMIMIC.items()}
    return theirs.get(path, path.removeprefix("obs/").replace("/", "."))


def _minari_name(path: str) -> str:
    theirs = {column: name for name, column in MINARI.items()}
    return theirs.get(path, path.removeprefix("observations/").replace("/", "."))


def write(stream: Stream, path: Path) -> None:
    """Write a stream as a file of robomimic; obs/KEY are all arrays but action, state, reward and done."""
    import h5py

    paths = {name: ROBOMIMIC.get(name, f"obs/{name}") for name in stream.columns}
    if "state" in paths and not any(path.startswith("obs/") for path in paths.values()):
        paths["state"] = "obs/state"  # robomimic learns from obs alone
    lengths = np.diff(stream.ends, prepend=0).tolist()
    meta = {key: value for key, value in stream.meta.items() if key not in ("env_args", "masks")}
    environment = {"env_name": str(meta.get("env_name", "ilbook")), "type": 2, "env_kwargs": {}}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = stream.n_steps
        data.attrs["env_args"] = stream.meta.get("env_args") or json.dumps(environment)
        data.attrs[OURS] = json.dumps({"meta": meta, "arrays": paths})
        for mask, members in stream.meta.get("masks", {}).items():
            file.create_dataset(f"mask/{mask}", data=np.array([f"demo_{index}" for index in members], dtype="S"))
        for block in stream.blocks():
            demo = f"demo_{block.episode}"
            if demo not in data:
                made = data.create_group(demo)
                made.attrs["num_samples"] = lengths[block.episode]
                for name, column in stream.columns.items():
                    # Pictures compress tenfold; positions hardly at all.
                    packed = {"chunks": (1, *column.shape), "compression": "gzip", "compression_opts": 1}
                    options = packed if column.is_picture else {}
                    made.create_dataset(paths[name], (lengths[block.episode], *column.shape), column.dtype, **options)
            first = block.start - (stream.ends[block.episode - 1] if block.episode else 0)
            for name, part in block.arrays.items():
                data[demo][paths[name]][first : first + len(part)] = part
