"""A store of trainings, keyed by content: train once, reuse visibly, and say why a key changed."""

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
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ilbook.errors import UserError
from ilbook.page import fingerprint, versions
from ilbook.page.run import Run
from ilbook.paths import root

if TYPE_CHECKING:
    import torch

    from ilbook.data import Episodes

WEIGHTS = "model.safetensors"
META = "meta.json"  # the record, the key part by part, and the hash of the weights


@dataclass(frozen=True)
class Record:
    """What is known of a training: the key it is stored under, when and how long it trained, and its history."""

    name: str
    key: str  # hexadecimal; the first digits are shown
    reused: bool
    trained: float  # when it ended, in seconds since 1970
    seconds: float  # of training
    history: dict[str, list[float]]


def train(
    run: Run,
    name: str,
    make: "Callable[[], torch.nn.Module]",
    fit: "Callable[[torch.nn.Module], Mapping[str, list[float]]]",
    *,
    data: "Episodes | Mapping[str, object] | None",
    settings: object,
    seed: int,
) -> "tuple[torch.nn.Module, Record]":
    """The module that `fit` trains from `make()`, in evaluation mode: from the store if nothing it depends on changed.

    `data` is Episodes or a dict of arrays, `settings` a dataclass or dict; with the seed, the profile and the sources
    of `make` and `fit` (and all they use) they are the key. Torch, numpy and random are seeded from seed and name, and
    left as they were. All that `fit` leaves must be in the state dict: the module returned was always loaded from it.
    """
    if not re.fullmatch(r"[A-Za-z0-9]\w*([.-]\w+)*", name):
        raise UserError(f"training name {name!r} cannot name a folder; use letters, digits, '_' and '-'")
    parts = _key_parts(run, make, fit, data, settings, seed)
    key = versions.digest(parts)
    entry = root() / "build" / "trained" / f"{name}-{key[:12]}"
    with _seeded(seed, name):
        module = make()
        if os.environ.get("ILBOOK_FRESH") == "1":
            print(f"{name}: training again: asked for by ILBOOK_FRESH")
        elif (record := _load(entry, name, key, module)) is not None:
            ago = _words(time.time() - record.trained)
            print(f"{name}: reused {key[:4]}, trained {ago} ago in {_words(record.seconds)}")
            return module.eval(), record
        else:
            print(f"{name}: {_why(entry, parts, run.notebook)}")
        record = _fit(name, key, module, fit)
        weights = _serialised(module)
        changed = _differing(parts["sources"], _sources(make, fit))
        if changed:
            # A reused training could not repeat that, and the rest of the page would see other values.
            print(
                f"{name}: trained, but not stored: fit changed {changed[0]}, which lives outside it; make it inside fit"
            )
        else:
            _store(entry, weights, record, parts, run.notebook)
        restored = make()
        _restore(restored, weights)
    return restored.eval(), record


def _key_parts(run: Run, make: Callable, fit: Callable, data: object, settings: object, seed: int) -> dict:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"training seed {seed!r} is not a whole number >= 0; take one of run.seeds(n)")
    return {
        "settings": _flat("", settings),
        "seed": seed,
        "profile": run.profile,
        "data": _data_hashes(data),
        "sources": _sources(make, fit),
    }


def _sources(make: Callable, fit: Callable) -> dict[str, str]:
    found = fingerprint.of({"make": make, "fit": fit})
    return {**found["notebook"], "state": found["state"], **versions.of(found["parts"])}


def _data_hashes(data: object) -> dict[str, str]:
    if data is None:  # a learner that makes its own data
        return {}
    if hasattr(data, "arrays") and hasattr(data, "episode_ends"):
        data = {**data.arrays, "episode_ends": data.episode_ends}
    if not isinstance(data, Mapping) or not all(hasattr(array, "dtype") for array in data.values()):
        raise UserError(f"training data is a {type(data).__name__}; give Episodes, a dict of arrays, or None")
    return {str(name): fingerprint.array_hash(array) for name, array in data.items()}


def _flat(name: str, value: object) -> dict[str, object]:
    """Settings as one level of names, such as optimiser.lr, so that a change can be named."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {
            key: leaf for inner in value for key, leaf in _flat(f"{name}.{inner}".lstrip("."), value[inner]).items()
        }
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a numpy or torch scalar
        value = value.item()
    if not name:
        raise UserError(f"training settings are a {type(value).__name__}; give a dataclass or a dict")
    if isinstance(value, list | tuple):
        return {name: [leaf for inner in value for leaf in _flat(name, inner).values()]}
    if value is not None and not isinstance(value, bool | int | float | str):
        raise UserError(
            f"setting {name} is a {type(value).__name__}; settings hold numbers, truth values, text and lists"
        )
    return {name: value}


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


def _fit(name: str, key: str, module: "torch.nn.Module", fit: Callable) -> Record:
    began = time.time()
    try:
        history = fit(module)
    except BaseException as error:  # a reader's interrupt too: nothing half trained may look trained
        word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        print(f"{name}: {word} after {_words(time.time() - began)}; nothing was stored")
        raise
    ended = time.time()
    try:
        history = {str(column): [float(value) for value in values] for column, values in history.items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{name}: fit returned a {type(history).__name__}; return a dict of lists of numbers") from None
    return Record(name, key, False, ended, ended - began, history)


def _serialised(module: "torch.nn.Module") -> bytes:
    import safetensors.torch

    # Parts that share memory (tied weights) are copied: the module made to load them ties them again.
    return safetensors.torch.save({name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()})


def _restore(module: "torch.nn.Module", weights: bytes) -> None:
    import safetensors.torch

    module.load_state_dict(safetensors.torch.load(weights))


def _store(entry: Path, weights: bytes, record: Record, parts: dict, notebook: str) -> None:
    """Write the entry beside its place, then rename it; a full disk costs the reuse, not the training."""
    meta = {
        "notebook": notebook,
        "trained": record.trained,
        "seconds": record.seconds,
        "weights": versions.sha(weights),
        "parts": parts,
        "history": record.history,
    }
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=entry.parent))
        (temporary / WEIGHTS).write_bytes(weights)
        (temporary / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)  # damaged, or to be trained afresh
        temporary.rename(entry)
    except OSError as error:
        # Another process that stored the same key a moment earlier also ends here, harmlessly.
        if not entry.is_dir():
            print(f"{record.name}: trained, but not stored for reuse in {entry.parent}: {error.strerror or error}")
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _load(entry: Path, name: str, key: str, module: "torch.nn.Module") -> Record | None:
    """Fill `module` from a stored entry; None if there is none, or it is damaged."""
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        weights = (entry / WEIGHTS).read_bytes()
        if versions.sha(weights) != meta["weights"]:
            return None
        record = Record(name, key, True, meta["trained"], meta["seconds"], meta["history"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    _restore(module, weights)
    return record


def _why(entry: Path, parts: dict, notebook: str) -> str:
    """Why there is a training to do: the first of its name, a damaged entry, or what changed since the nearest one."""
    if entry.exists():
        return f"training again: the stored {entry.name} is damaged"
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
        return meta if {"sources", "data", "settings", "seed", "profile"} <= meta["parts"].keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _changes(old: dict, new: dict) -> list[str]:
    """Each part of the key that differs, in words: "settings changed (steps 2000 -> 4000)"."""
    changes = []
    for part in new:
        if old[part] == new[part]:
            continue
        if not isinstance(new[part], dict):
            changes.append(f"{part} changed ({old[part]} -> {new[part]})")
            continue
        names = _differing(old[part], new[part])
        if part == "settings":
            names = [f"{name} {old[part].get(name, 'unset')} -> {new[part].get(name, 'unset')}" for name in names]
        changes.append(f"{part} changed ({', '.join(names)})")
    return changes


def _differing(old: dict, new: dict) -> list[str]:
    return [name for name in {**old, **new} if old.get(name, ...) != new.get(name, ...)]


def _words(seconds: float) -> str:
    """A duration a reader takes in at a glance: "41 s", "2 days"; in the largest unit of which there are two."""
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{max(seconds, 0):.1f} s"
