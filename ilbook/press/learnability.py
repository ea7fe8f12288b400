"""How well the shipped demonstrations can be cloned: one plain chunk policy for each set, judged on 200 new starts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import torch

from ilbook import data, tasks, used
from ilbook.control.receding import RecedingHorizon
from ilbook.data import manifest
from ilbook.data.windows import Windows
from ilbook.errors import UserError, unknown
from ilbook.learning.fit import Training, fit
from ilbook.page import versions
from ilbook.paths import root, write_file
from ilbook.policies.bc import MLPPolicy
from ilbook.press.results import why_stale
from ilbook.rollout.evaluate import evaluate
from ilbook.stats import wilson

STARTS = range(300_000, 300_200)  # met by no expert, notebook or other measurement
SEED = 0


@dataclass(frozen=True)
class Plain:
    """A chunk policy that regresses, as simple as it can be for its task."""

    horizon: int
    n_exec: int
    relative_to: tuple[int, ...]  # entries of the observation that hold the present position
    steps: int = 12_000
    width: int = 320
    depth: int = 3
    learning_rate: float = 3e-3
    batch: int = 256


PLAIN = {
    "avoid": Plain(horizon=8, n_exec=8, relative_to=(0, 1), steps=6_000),
    "insert": Plain(horizon=8, n_exec=8, relative_to=(3, 4, 5), steps=8_000, width=256),
    "pickplace": Plain(horizon=8, n_exec=4, relative_to=(6, 7, 8, 9, 10, 11), steps=8_000, width=384),
    "pusht": Plain(horizon=4, n_exec=3, relative_to=(0, 1)),
}


def file() -> Path:
    return root() / "data" / "results" / "learnability.json"


def _measured() -> dict[str, dict]:
    return json.loads(file().read_text(encoding="utf-8")) if file().is_file() else {}


def rows() -> list[dict]:
    """One row for each shipped set, measured or not; `stale` says that the set or a part that ran has changed."""
    measured, found = _measured(), []
    for name, entry in manifest.entries().items():
        row = {"set": name, **{key: entry[key] for key in ("task", "episodes", "steps", "bytes")}}
        result = measured.get(name)
        stale = bool(result and (result["data"] != entry["sha256"] or why_stale(result)))
        found.append(row | {"result": result, "stale": stale})
    return found


def measure(names: Sequence[str] = (), progress: TextIO | None = None) -> list[dict]:
    """Train and judge the plain policy of each named set (default: all), write the results; returns their rows."""
    entries, results = manifest.entries(), []
    for name in names:
        if name not in entries:
            raise unknown("data set", name, entries)
    for name in names or entries:
        with used.collected() as parts:
            result = _measure(name, entries[name], progress)
        result["parts"] = versions.known(parts)
        results.append({"set": name, **result})
        write_file(file(), json.dumps(dict(sorted({**_measured(), name: result}.items())), indent=1) + "\n")
    return results


def _measure(name: str, entry: dict, progress: TextIO | None) -> dict:
    if entry["task"] not in PLAIN:
        raise UserError(f"no plain policy is defined for the task of '{name}'; add it to PLAIN in learnability.py")
    plain, task, demos = PLAIN[entry["task"]], tasks.get(entry["task"])(), data.load(name, pictures=False)
    torch.manual_seed(SEED)
    sizes = (demos["obs"].shape[1], demos["action"].shape[1])
    policy = MLPPolicy(*sizes, Windows(1, plain.horizon), plain.width, plain.depth, plain.relative_to)
    begin = time.perf_counter()
    for _ in fit(policy, demos, Training(plain.steps, plain.batch, plain.learning_rate), SEED):
        pass
    seconds = time.perf_counter() - begin
    table = evaluate(task, RecedingHorizon(policy, plain.n_exec, SEED), STARTS, "plain chunks").table
    estimate = wilson(int(table["success"].sum()), len(table))
    if progress:
        print(f"{name}: {estimate.effect:.1%}, n = {estimate.n}, trained {seconds:.0f} s", file=progress, flush=True)
    return {
        "success": estimate.effect,
        **{key: getattr(estimate, key) for key in ("low", "high", "n")},
        "train_seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "policy": asdict(plain),
        "data": entry["sha256"],
    }
