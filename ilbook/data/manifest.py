"""The list of shipped demonstrations, data/manifest.json: what each file is, how it was made, and its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ilbook.data import files
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, unknown
from ilbook.profile import root, write_file

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
    for name, entry in entries().items():
        file = root() / "data" / entry["file"]
        if not file.is_file():
            raise UserError(f"data/{entry['file']} is listed but missing; make it with 'ilbook data make {name}'")
        if sha256(file) != entry["sha256"]:
            raise UserError(f"data/{entry['file']} is not the file that the manifest lists; make '{name}' again")
        _read(name, file)
    if not entries():
        raise UserError("data/manifest.json lists no data set; make one with 'ilbook data make pusht'")
    return list(entries())


def _read(name: str, file: Path) -> Episodes:
    from ilbook import tasks

    task = tasks.get(entries()[name]["task"])
    return files.read(file, {"state": len(task.state_names), "action": len(task.action_low)})


def load(name: str) -> Episodes:
    """A shipped data set with its observations: arrays state (T, S), action (T, A), obs (T, O), float32, SI units."""
    from ilbook import tasks

    if name not in entries():
        raise unknown("data set", name, entries())
    entry = entries()[name]
    episodes = _read(name, root() / "data" / entry["file"])
    obs = tasks.get(entry["task"]).observe(episodes["state"].astype(np.float64))
    return episodes.with_array("obs", obs.astype(np.float32))
