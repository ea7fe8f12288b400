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
from ilbook.page.threads import Threads
from ilbook.paths import build

if TYPE_CHECKING:
    import torch

    from ilbook.control.receding import RecedingHorizon
    from ilbook.data.episodes import Episodes
    from ilbook.learning.batches import Batches
    from ilbook.learning.fit import Training
    from ilbook.policies.base import Policy

WEIGHTS = "model.safetensors"
META = "meta.json"  # the record, the key part by part, the parts that were used, and the hash of the weights
MOST_LINES = 6  # trainings of one call that are told one by one
WORTH = 1000  # steps, of all trainings of a call: to start a process takes as long as some hundred of the smallest ones
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


@dataclass(frozen=True)
class Job:
    """One training to do: the policy as it begins, and all that its end depends on."""

    name: str
    policy: Policy
    data: Episodes | Batches
    settings: Training
    seed: int
    keep: int


def train(
    notebook: str,
    wanted: Mapping[str, tuple[Policy | Callable[[], Policy], Episodes | Batches, Training]],
    seeds: list[int],
    keep: int = 0,
    threads: int = 1,
) -> dict[str, Trained]:
    """Train what is wanted once for each seed, from the store where nothing it depends on changed; see `Run.train`.

    Several trainings that are worth the start of a process run side by side, one process a core and a thread each.
    """
    for name, (policy, *_) in wanted.items():
        if is_made(policy) and len(seeds) > 1:
            raise UserError(f"{name}: one policy cannot be trained {len(seeds)} times; give a function that makes it")
    jobs = [_job(name, *what, seed, keep) for name, what in wanted.items() for seed in seeds]
    done: dict[int, Record] = {}
    missing, said = [], []
    for number, job in enumerate(jobs):
        parts = _key_parts(job)
        key = versions.digest(parts)
        entry = build() / "trained" / f"{re.sub('[ ,]+', '-', job.name)}-{key[:12]}"
        if os.environ.get("ILBOOK_FRESH") == "1":
            said.append("training again: asked for by ILBOOK_FRESH")
        elif (found := _load(entry, job.policy, job.seed, key)) is not None:
            age, length = _words(time.time() - found.trained), _words(found.seconds)
            said.append(f"reused {key[:4]}, trained {age} ago in {length}")
            done[number] = found
            continue
        else:
            said.append(_why(entry, parts, notebook))
        missing.append((number, parts, key, entry))
    _say([job.name for job in jobs], said, len(missing))
    trained = _carried_out([jobs[number] for number, *_ in missing], threads)
    for (number, parts, key, entry), (meta, weights) in zip(missing, trained, strict=True):
        job = jobs[number]
        meta |= {"notebook": notebook, "parts": parts}
        meta["weights"] = {file: hashlib.sha256(content).hexdigest() for file, content in weights.items()}
        _store(entry, job.name, meta, weights)
        done[number] = _record(job.policy, job.seed, key, meta, weights, reused=False)
    records = iter(done[number] for number in range(len(jobs)))
    return {name: Trained(name, tuple(next(records) for _ in seeds)) for name in wanted}


def is_made(policy: object) -> bool:
    """Whether this is a policy, and not what makes one: a function, or its class."""
    return hasattr(policy, "state_dict") and not isinstance(policy, type)


def _job(name: str, policy, data, settings, seed: int, keep: int) -> Job:
    if not re.fullmatch(r"[A-Za-z0-9]\w*([ ,.-]+\w+)*", name):
        raise UserError(f"training name {name!r} cannot name a folder; use letters, digits, '_', '-' and blanks")
    with _seeded(seed, name):
        # A copy of what was given; of what a function makes, a fresh one, because it may keep what it made.
        return Job(name, copy.deepcopy(policy) if is_made(policy) else policy(), data, settings, seed, keep)


def _key_parts(job: Job) -> dict:
    mine, source = fingerprint.of(job.policy), fingerprint.of_data(job.data, (*job.policy.inputs, "action"))
    return {
        "settings": {**asdict(job.settings), "keep": job.keep},
        "seed": job.seed,
        "data": source,
        "policy": mine["notebook"] | {"weights": mine["state"]},
        "versions": versions.known({*LEARNING, *mine["parts"], *source.pop("parts")}),
    }


def _say(names: list[str], said: list[str], to_do: int) -> None:
    """A line for each training, or one for many."""
    if len(names) > MOST_LINES:
        print(f"{names[0]} to {names[-1]}: {len(names)} trainings, {len(names) - to_do} of them reused")
    else:
        print("\n".join(f"{name}: {words}" for name, words in zip(names, said, strict=True)))


def _carried_out(jobs: list[Job], threads: int) -> Iterator[tuple[dict, dict[str, bytes]]]:
    """What `_fit` gives for each job, in their order, each as soon as it and those before it are done."""
    if threads == 1 or len(jobs) == 1 or sum(job.settings.steps for job in jobs) < WORTH:
        yield from (_fit(job, threads) for job in jobs)
        return
    from joblib import Parallel, delayed, parallel_config

    # Processes, because Python's own part of a step does not share one; no memory maps, which torch must not write to.
    with parallel_config("loky", n_jobs=min(threads, len(jobs)), inner_max_num_threads=1, max_nbytes=None):
        yield from Parallel(return_as="generator")(delayed(_fit)(job) for job in jobs)


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


def _fit(job: Job, threads: int = 1) -> tuple[dict, dict[str, bytes]]:
    """Train; what is to be remembered, and the files with weights."""
    import torch

    from ilbook.learning.fit import fit
    from ilbook.page.live import bar

    began, weights, cores = time.time(), {}, Threads(threads)
    if threads == 1:
        torch.set_num_threads(1)
    try:
        with used.collected() as in_use, _seeded(job.seed, job.name), bar(job.settings.steps, job.name) as shown:

            def tell(step: int, loss: float) -> None:
                shown.update(step - shown.n)
                cores.look()

            for snapshot in fit(job.policy, job.data, job.settings, job.seed, max(job.keep, 1), progress=tell):
                if job.keep:
                    weights[f"{snapshot.step}.safetensors"] = _serialised(snapshot.weights)
    except BaseException as error:  # a reader's interrupt too: nothing half trained may look trained
        word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        print(f"{job.name}: {word} after {_words(time.time() - began)}; nothing was stored")
        raise
    weights[WEIGHTS] = _serialised(job.policy.state_dict())
    known, seconds = versions.known(in_use), time.time() - began
    return {"trained": time.time(), "seconds": seconds, "history": snapshot.history, "used": known}, weights


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
