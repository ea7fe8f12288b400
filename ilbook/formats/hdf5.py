"""HDF5: robomimic's files (Mandlekar et al. 2021) both ways, and Minari's `main_data.hdf5` to read.

robomimic: groups data/demo_i with `actions`, `obs/KEY`, `states`, ... Minari: groups episode_i with `observations` (one
row more than `actions`; the last one is dropped), `rewards`, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ilbook.data.files import check_there, parse, readable
from ilbook.errors import UserError
from ilbook.formats.stream import Stream, from_parts

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


def recognise(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in MINARI_FILES)
    with path.open("rb") as file:
        return file.read(8) == MAGIC or path.suffix in (".hdf5", ".h5")


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a file of robomimic or a file or folder of Minari; it closes when the stream is gone."""
    import h5py

    file = path if path.is_file() else next(path / name for name in MINARI_FILES if (path / name).is_file())
    with readable(file.name, "HDF5 file", *DAMAGES):
        opened = h5py.File(file, "r")
        minari = "data" not in opened
        inside, stem = (opened, "episode") if minari else (opened["data"], "demo")
        numbers = sorted(int(match[1]) for name in inside if (match := re.fullmatch(rf"{stem}_(\d+)", name)))
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
            return [(f"{place}/{paths[name]}", found[paths[name]]) for place, found in episodes]

        actions = parts("action")
        for (place, array), group in zip(actions, groups, strict=True):
            if not array.shape or not len(array):
                raise UserError(f"{place} has no rows; an episode must not be empty")
            if (said := group.attrs.get("num_samples", len(array))) != len(array):
                raise UserError(f"{place} has {len(array)} rows, but num_samples says {said}")
        ends = np.cumsum([len(array) for _, array in actions])
        aside = [name for name, path in paths.items() if path.startswith(ASIDE)]
        return from_parts(paths, parts, ends, meta, file.name, arrays, per_episode=True, aside=aside)


def _leaves(group: Mapping, above: str = "") -> dict:
    """Path -> array for all that a nested group holds."""
    found = {}
    for key, value in group.items():
        found |= _leaves(value, f"{above}{key}/") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


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
    with h5py.File(path, "w") as file:
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
        for block in stream.watched("export"):
            first = block.start - spans[block.episode][0]
            for name, part in block.arrays.items():
                data[f"demo_{block.episode}"][paths[name]][first : first + len(part)] = part
