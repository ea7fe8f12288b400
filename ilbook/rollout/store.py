"""Batches of finished episodes on disk, by content: task, its shift, policy and starts, and the code of all of them."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import mujoco
import numpy as np

from ilbook.errors import UserError
from ilbook.page import fingerprint, versions
from ilbook.paths import write_file
from ilbook.rollout.evaluate import Controller, Rollout, evaluate
from ilbook.tasks.base import Task

LABELS = ("policy", "train_seed")  # not stored: who runs the batch names it, perhaps blindly
FOLLOWED = (type(None), bool, int, float, str, tuple, list, dict, np.ndarray)


def entry(folder: Path, task_type: type[Task], controller: Controller, starts: list[int], rows: int) -> Path:
    """The file of a batch."""
    controller.reset()  # what a batch before this one left in its queues is not part of the policy
    found = fingerprint.of(
        {"task": task_type, "settings": _settings(task_type), "controller": controller, "evaluate": evaluate}
    )
    parts = [found["notebook"], found["state"], versions.of(found["parts"])]
    key = versions.digest([parts, starts, rows, mujoco.__version__])
    return Path(folder) / f"{task_type.name}-{key[:20]}.npz"


def _settings(task_type: type[Task]) -> dict[str, object]:
    """The values that a task and its bases define: a perturbed task, or a variant, differs in nothing else."""
    found = {}
    for base in reversed(task_type.__mro__):
        for name, value in vars(base).items():
            if not name.startswith("_") and isinstance(value, FOLLOWED):
                found[name] = value
    return found


def save(file: Path, rollout: Rollout) -> None:
    """Write all of a batch or nothing; a full disk costs the reuse, not the episodes."""
    columns = {f"column {name}": rollout.table[name].to_numpy() for name in rollout.table if name not in LABELS}
    # Texts as fixed-width arrays: no pickle is ever loaded.
    columns = {name: values.astype(str) if values.dtype == object else values for name, values in columns.items()}
    buffer = io.BytesIO()
    lengths = np.array([len(states) for states in rollout.states])
    np.savez(buffer, states=np.concatenate(rollout.states), lengths=lengths, **columns)
    try:
        write_file(file, buffer.getvalue())
    except UserError as error:
        print(f"these episodes are not kept: {error}")


def load(file: Path, starts: list[int], policy: str, train_seed: int) -> Rollout | None:
    """A stored batch under the name of its policy; None if there is none, it is damaged, or all is asked for afresh."""
    import pandas as pd

    if os.environ.get("ILBOOK_FRESH") == "1" or not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            columns = {name.removeprefix("column "): stored[name] for name in stored if name.startswith("column ")}
            states = np.split(stored["states"], np.cumsum(stored["lengths"])[:-1])
        if columns["start"].tolist() != starts or len(states) != len(starts):
            return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    columns = {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in columns.items()}
    return Rollout(pd.DataFrame({"policy": policy, "train_seed": train_seed, **columns}), states)
