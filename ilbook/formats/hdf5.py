"""HDF5: robomimic's files (Mandlekar et al. 2021) both ways, and Minari's `main_data.hdf5` to read.

robomimic: groups data/demo_i with `actions`, `obs/KEY`, `states`, ..., and `mask/NAME` with names of demos. Minari:
groups episode_i with `observations` (one row more than `actions`; the last one is dropped), `rewards`, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ilbook.data.files import check_there, parse, readable
from ilbook.errors import UserError
from ilbook.formats.stream import Joined, Stream, choose, from_arrays

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
ASIDE = ("next_obs/", "infos/")  # what can be derived, or is not meant for learning: only if asked for
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
            raise UserError(
                f"{file.name}: has neither data/demo_0 (robomimic) nor episode_0 (Minari); its layout is not known"
            )
        episodes = [inside[f"{stem}_{number}"] for number in numbers]
        ours = parse(inside.attrs.get(OURS, "{}"), f"{file.name}: attribute '{OURS}'")
        paths = _paths(episodes[0], MINARI if minari else ROBOMIMIC, ours.get("arrays", {}))
        check_there(["actions"], paths.values(), f"{file.name}{episodes[0].name}")
        aside = [name for name, path in paths.items() if path.startswith(ASIDE)]
        ends = np.cumsum([_length(group, f"{file.name}{group.name}") for group in episodes])
        stored = {name: _joined(file.name, episodes, paths[name], ends) for name in choose(paths, arrays, aside)}
        meta = {**ours.get("meta", {}), "source": file.name, "format": "minari" if minari else "robomimic"}
        meta |= {} if minari else _robomimic_meta(opened, [group.name.split("/")[-1] for group in episodes])
    return from_arrays(stored, ends, meta, file.name, place=lambda name, step: stored[name].place(step))


def _joined(file: str, episodes: list, path: str, ends: np.ndarray) -> Joined:
    for group in episodes:
        if path not in group:
            check_there([path], group, f"{file}{group.name}")
    where = [f"{file}{group.name}/{path}" for group in episodes]
    return Joined([group[path] for group in episodes], where, ends, more=path.startswith("observations"))


def _paths(group, names: dict[str, str], said: dict[str, str]) -> dict[str, str]:
    """Array -> path below the group of an episode, for all that the first one holds; `said` is what we noted."""
    found: list[str] = []
    group.visititems(lambda path, item: found.append(path) if hasattr(item, "dtype") else None)
    named = {path: name for name, path in said.items() if path in found}
    theirs = {path: name for name, path in names.items()}
    for path in found:
        plain = re.sub("^(obs|observations)/", "", path).replace("/", ".")
        name = theirs.get(path, plain)
        named.setdefault(path, path.replace("/", ".") if name in named.values() else name)
    return {name: path for path, name in named.items()}


def _length(group, where: str) -> int:
    """Steps of one episode."""
    check_there(["actions"], group, where)
    length = len(group["actions"])
    if length == 0:
        raise UserError(f"{where}/actions has no rows; an episode must not be empty")
    if (said := group.attrs.get("num_samples", length)) != length:
        raise UserError(f"{where}/actions has {length} rows, but num_samples says {said}")
    return length


def _robomimic_meta(opened, demos: list[str]) -> dict:
    """What the file says of its environment, and its masks as numbers of episodes."""
    meta = {}
    if "env_args" in opened["data"].attrs:
        meta["env_args"] = str(opened["data"].attrs["env_args"])
    if "mask" in opened:
        meta["masks"] = {mask: [] for mask in opened["mask"]}
        for mask, members in meta["masks"].items():
            for row, name in enumerate(opened[f"mask/{mask}"].asstr()[:]):
                if name not in demos:
                    where = f"{Path(opened.filename).name}/mask/{mask}"
                    raise UserError(f"{where}, row {row}: there is no {name} in the file")
                members.append(demos.index(name))
    return meta


def write(stream: Stream, path: Path) -> None:
    """Write a stream as a file of robomimic; obs/KEY are all arrays but action, state, reward and done."""
    import h5py

    paths = {name: ROBOMIMIC.get(name, f"obs/{name}") for name in stream.columns}
    if "state" in paths and not any(path.startswith("obs/") for path in paths.values()):
        paths["state"] = "obs/state"  # robomimic learns from obs alone
    meta = {key: value for key, value in stream.meta.items() if key not in ("env_args", "masks")}
    environment = {"env_name": str(meta.get("env_name", "ilbook")), "type": 2, "env_kwargs": {}}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = stream.n_steps
        data.attrs["env_args"] = stream.meta.get("env_args") or json.dumps(environment)
        data.attrs[OURS] = json.dumps({"meta": meta, "arrays": paths})
        for mask, members in stream.meta.get("masks", {}).items():
            file.create_dataset(f"mask/{mask}", data=np.array([f"demo_{index}" for index in members], dtype="S"))
        for index, (start, end) in enumerate(zip(stream.starts.tolist(), stream.ends.tolist(), strict=True)):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = end - start
            for name, column in stream.columns.items():
                # Pictures compress tenfold; positions hardly at all.
                packed = {"chunks": (1, *column.shape), "compression": "gzip", "compression_opts": 1}
                options = packed if column.is_picture else {}
                demo.create_dataset(paths[name], (end - start, *column.shape), column.dtype, **options)
        for block in stream.blocks():
            first = block.start - stream.starts[block.episode]
            for name, part in block.arrays.items():
                data[f"demo_{block.episode}"][paths[name]][first : first + len(part)] = part
