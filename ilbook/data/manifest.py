"""The list of shipped demonstrations, data/manifest.json: what each file is, how it was made, and its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ilbook.data import files
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, unknown
from ilbook.paths import root, write_file

KEYS = ("file", "task", "sha256", "bytes", "episodes", "steps", "generator", "seed", "engine")


def path() -> Path:
    return root() / "data" / "manifest.json"


def entries() -> dict[str, dict]:
    """Name of each data set -> its entry; empty when nothing was made yet."""
    if not path().is_file():
        return {}
    try:
        listed = json.loads(path().read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"data/manifest.json is not JSON (line {error.lineno}); restore the committed one") from None
    for name, entry in listed.items():
        if absent := [key for key in KEYS if key not in entry]:
            raise UserError(f"data/manifest.json: entry '{name}' lacks {', '.join(absent)}; make the data set again")
    return listed


def record(name: str, entry: dict) -> None:
    """Add or replace one entry."""
    listed = dict(sorted({**entries(), name: entry}.items()))
    write_file(path(), json.dumps(listed, indent=2) + "\n")


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check() -> list[str]:
    """Compare every listed file with its hash and read it; returns the names, UserError for the first that differs."""
    listed = entries()
    for name, entry in listed.items():
        file = _file(entry)
        hashes = {file: entry["sha256"]} | {file.with_name(film): digest for film, digest in _films(entry).items()}
        for path, digest in hashes.items():
            shown = path.relative_to(root()).as_posix()
            if not path.is_file():
                raise UserError(f"{shown} is listed but missing; make it with 'ilbook data make {name}'")
            if sha256(path) != digest:
                raise UserError(f"{shown} is not the file that the manifest lists; make '{name}' again")
        _read(entry)
    if not listed:
        raise UserError("data/manifest.json lists no data set; make one with 'ilbook data make pusht'")
    return list(listed)


def _file(entry: dict) -> Path:
    return root() / "data" / entry["file"]


def _films(entry: dict) -> dict[str, str]:
    """Films of the set, in order, and their hashes."""
    return entry.get("frames", {})


def _read(entry: dict) -> Episodes:
    from ilbook import tasks

    task = tasks.get(entry["task"])
    return files.read(_file(entry), {"state": len(task.state_names), "action": len(task.action_low)})


def load(name: str, pictures: bool = True) -> Episodes:
    """A shipped data set with its observations: arrays state (T, S), action (T, A), obs (T, O), float32, SI units.

    Some sets have more: operator (T,) int8 tells who demonstrated, image (T, 96, 96, 3) uint8 is what a camera saw
    (decoded only with `pictures`).
    """
    from ilbook import tasks

    listed = entries()
    if name not in listed:
        raise unknown("data set", name, listed)
    entry = listed[name]
    episodes, task = _read(entry), tasks.get(entry["task"])
    obs = task.observe(episodes["state"].astype(np.float64))
    episodes = episodes.with_array("obs", obs.astype(np.float32))
    if pictures and _films(entry):
        from ilbook.data import frames

        films = [_file(entry).with_name(film) for film in _films(entry)]
        episodes = episodes.with_array("image", frames.read(films, episodes, round(task.control_hz)))
    return episodes
