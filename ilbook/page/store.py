"""A store of trainings, keyed by content: train once, reuse visibly, and say why a key changed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ilbook import used
from ilbook.errors import UserError
from ilbook.page import fingerprint, versions
from ilbook.paths import root

if TYPE_CHECKING:
    import torch

    from ilbook.control.receding import RecedingHorizon
    from ilbook.data.episodes import Episodes
    from ilbook.learning.batches import Batches
    from ilbook.learning.fit import Training
    from ilbook.policies.base import Policy

WEIGHTS = "model.safetensors"
META = "meta.json"  # the record, the key part by part, the parts that were used, and the hash of the weights
LEARNING = ("data.normalise", "data.windows", "learning.batches", "learning.fit")


@dataclass(frozen=True)
class Record:
    """One training: its seed and key, the policy in evaluation mode, the history {step, loss}, and the policies at
    the checkpoints that were kept, by step.
    """

    seed: int
    key: str  # hexadecimal; the first digits are shown
    reused: bool
    trained: float  # when it ended, in seconds since 1970
    seconds: float  # of training
    history: dict[str, list[float]]
    policy: Policy
    snapshots: dict[int, Policy]


@dataclass(frozen=True)
class Trained:
    """What `run.train` gives: one record for each training; policy, history and snapshots are the first one's."""

    name: str
    records: tuple[Record, ...]

    @property
    def policy(self) -> Policy:
        return self.records[0].policy

    @property
    def history(self) -> dict[str, list[float]]:
        return self.records[0].history

    @property
    def snapshots(self) -> dict[int, Policy]:
        return self.records[0].snapshots

    @property
    def policies(self) -> dict[int, Policy]:
        """The policy of each training seed."""
        return {record.seed: record.policy for record in self.records}

    def executing(self, n_exec: int | None = None, **how) -> dict[int, RecedingHorizon]:
        """A controller for each training that executes `n_exec` actions of a chunk; see `RecedingHorizon`."""
        from ilbook.control.receding import RecedingHorizon

        return {record.seed: RecedingHorizon(record.policy, n_exec, record.seed, **how) for record in self.records}


def train(
    notebook: str,
    name: str,
    policy: Policy | Callable[[], Policy],
    data: Episodes | Batches,
    settings: Training,
    seeds: list[int],
    keep: int = 0,
) -> Trained:
    """Train a policy once for each seed, from the store where nothing it depends on changed; see `Run.train`."""
    if not re.fullmatch(r"[A-Za-z0-9]\w*([ ,.-]+\w+)*", name):
        raise UserError(f"training name {name!r} cannot name a folder; use letters, digits, '_', '-' and blanks")
    if is_made(policy) and len(seeds) > 1:
        raise UserError(f"{name}: one policy cannot be trained {len(seeds)} times; give a function that makes it")
    return Trained(name, tuple(_train(notebook, name, policy, data, settings, seed, keep) for seed in seeds))


def is_made(policy: object) -> bool:
    """Whether this is a policy, and not what makes one: a function, or its class."""
    return hasattr(policy, "state_dict") and not isinstance(policy, type)


def _train(notebook, name, policy, data, settings, seed, keep) -> Record:
    with _seeded(seed, name):
        # A copy of what was given; of what a function makes, a fresh one, because it may keep what it made.
        policy = copy.deepcopy(policy) if is_made(policy) else policy()
    parts = _key_parts(policy, data, settings, seed, keep)
    key = versions.digest(parts)
    entry = root() / "build" / "trained" / f"{re.sub('[ ,]+', '-', name)}-{key[:12]}"
    if os.environ.get("ILBOOK_FRESH") == "1":
        print(f"{name}: training again: asked for by ILBOOK_FRESH")
    elif (found := _load(entry, policy, seed, key)) is not None:
        print(f"{name}: reused {key[:4]}, trained {_words(time.time() - found.trained)} ago in {_words(found.seconds)}")
        return found
    else:
        print(f"{name}: {_why(entry, parts, notebook)}")
    with used.collected() as in_use, _seeded(seed, name):
        meta, weights = _fit(name, policy, data, settings, seed, keep)
    meta |= {"notebook": notebook, "parts": parts, "used": versions.known(in_use)}
    meta["weights"] = {file: hashlib.sha256(content).hexdigest() for file, content in weights.items()}
    _store(entry, name, meta, weights)
    return _record(policy, seed, key, meta, weights, reused=False)


def _key_parts(policy, data, settings, seed, keep) -> dict:
    mine, source = fingerprint.of(policy), fingerprint.of_data(data, (*policy.inputs, "action"))
    return {
        "settings": {**asdict(settings), "keep": keep},
        "seed": seed,
        "data": source,
        "policy": mine["notebook"] | {"weights": mine["state"]},
        "versions": versions.known({*LEARNING, *mine["parts"], *source.pop("parts")}),
    }


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Global generators seeded from seed and name, then put back: what follows must not depend on a hit or a miss."""
    import numpy as np
    import torch

    start = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4])
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(start)
        np.random.seed(start)
        torch.manual_seed(start)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _fit(name: str, policy, data, settings, seed: int, keep: int) -> tuple[dict, dict[str, bytes]]:
    """Train; what is to be remembered, and the files with weights."""
    from ilbook.learning.fit import fit
    from ilbook.page.live import bar

    began, weights = time.time(), {}
    try:
        with bar(settings.steps, name) as shown:
            tell = lambda step, loss: shown.update(step - shown.n)  # noqa: E731
            for snapshot in fit(policy, data, settings, seed, max(keep, 1), progress=tell):
                if keep:
                    weights[f"{snapshot.step}.safetensors"] = _serialised(snapshot.weights)
        history = snapshot.history
    except BaseException as error:  # a reader's interrupt too: nothing half trained may look trained
        word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        print(f"{name}: {word} after {_words(time.time() - began)}; nothing was stored")
        raise
    weights[WEIGHTS] = _serialised(policy.state_dict())
    return {"trained": time.time(), "seconds": time.time() - began, "history": history}, weights


def _serialised(state: Mapping[str, torch.Tensor]) -> bytes:
    import safetensors.torch

    # Parts that share memory (tied weights) are copied: the module made to load them ties them again.
    return safetensors.torch.save({name: tensor.cpu().contiguous().clone() for name, tensor in state.items()})


def _record(policy, seed: int, key: str, meta: dict, weights: dict[str, bytes], reused: bool) -> Record:
    """A training from its files: what a page gets was always loaded, whether it was just trained or not."""
    import safetensors.torch

    from ilbook.policies.base import device

    policies = {}
    for file, content in weights.items():
        policies[file] = copy.deepcopy(policy)
        policies[file].load_state_dict(safetensors.torch.load(content))
        policies[file].to(device()).eval()
    last = policies.pop(WEIGHTS)
    kept = {int(file.partition(".")[0]): one for file, one in policies.items()}
    used.note(*meta["used"])
    return Record(
        seed, key, reused, meta["trained"], meta["seconds"], meta["history"], last, dict(sorted(kept.items()))
    )


def _store(entry: Path, name: str, meta: dict, weights: dict[str, bytes]) -> None:
    """Write the entry beside its place, then rename it; a full disk costs the reuse, not the training."""
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=entry.parent))
        for file, content in weights.items():
            (temporary / file).write_bytes(content)
        (temporary / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)  # damaged, or to be trained afresh
        temporary.rename(entry)
    except OSError as error:
        # Another process that stored the same key a moment earlier also ends here, harmlessly.
        if not entry.is_dir():
            print(f"{name}: trained, but not stored for reuse in {entry.parent}: {error.strerror or error}")
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _load(entry: Path, policy, seed: int, key: str) -> Record | None:
    """A stored training; None if there is none, it is damaged, or a part that it used behaves differently now."""
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        weights = {file: (entry / file).read_bytes() for file in meta["weights"]}
        whole = all(hashlib.sha256(weights[file]).hexdigest() == digest for file, digest in meta["weights"].items())
        if not whole or versions.known(meta["used"]) != meta["used"]:
            return None
        return _record(policy, seed, key, meta, weights, reused=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None


def _why(entry: Path, parts: dict, notebook: str) -> str:
    """Why there is a training to do: the first of its name, a damaged entry, or what changed since the nearest one."""
    if entry.exists():
        return f"training again: the stored {entry.name} is damaged, or a part that it used has changed"
    name = entry.name[:-13]
    changes = [
        _changes(meta["parts"], parts)
        for sibling in sorted(entry.parent.glob(f"{name}-*"))
        if re.fullmatch(re.escape(name) + "-[0-9a-f]{12}", sibling.name)
        if (meta := _meta(sibling)) is not None and meta["notebook"] == notebook
    ]
    return f"training again: {', '.join(min(changes, key=len))}" if changes else "training (new)"


def _meta(entry: Path) -> dict | None:
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        return meta if {"settings", "seed", "data", "policy", "versions"} <= meta["parts"].keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _changes(old: dict, new: dict) -> list[str]:
    """Each part of the key that differs, in words: "settings changed (steps 2000 -> 4000)"."""
    changes = []
    for part, value in new.items():
        if old[part] == value:
            continue
        if not isinstance(value, dict):
            changes.append(f"{part} changed ({old[part]} -> {value})")
            continue
        names = [name for name in {**old[part], **value} if old[part].get(name, ...) != value.get(name, ...)]
        if part == "settings":
            names = [f"{name} {old[part].get(name, 'unset')} -> {value.get(name, 'unset')}" for name in names]
        changes.append(f"{part} changed ({', '.join(names)})")
    return changes


def _words(seconds: float) -> str:
    """A duration a reader takes in at a glance: "41 s", "2 days"; in the largest unit of which there are two."""
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{max(seconds, 0):.1f} s"
