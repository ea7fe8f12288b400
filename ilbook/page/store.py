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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
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
DAMAGES = (OSError, ValueError, KeyError, TypeError, AttributeError, UserError)  # of an entry, while it is read
MOST_LINES = 6  # trainings of one call that are told one by one
WORTH = 1000  # steps, of all trainings of a call: to start a process takes as long as some hundred of the smallest ones
LEARNING = ("data.normalise", "data.windows", "learning.batches", "learning.fit")


@dataclass(frozen=True)
class Trained:
    """What `run.train` gives."""

    policies: dict[int, Policy]  # of each training seed, in evaluation mode
    history: dict[str, list[float]]  # of the first training: {step, loss}
    snapshots: dict[int, Policy]  # of the first training: the policies at the checkpoints that were kept, by step

    @property
    def policy(self) -> Policy:
        """The first one."""
        return next(iter(self.policies.values()))

    def executing(self, n_exec: int | None = None, **how) -> dict[int, RecedingHorizon]:
        """A controller for each training that executes `n_exec` actions of a chunk; see `RecedingHorizon`."""
        from ilbook.control.receding import RecedingHorizon

        return {seed: RecedingHorizon(policy, n_exec, seed, **how) for seed, policy in self.policies.items()}


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
    """Train what is wanted once for each seed, from the store where nothing it depends on changed; see `Run.train`."""
    for name, (policy, *_) in wanted.items():
        if is_made(policy) and len(seeds) > 1:
            raise UserError(f"{name}: one policy cannot be trained {len(seeds)} times; give a function that makes it")
    jobs = [_job(name, *what, seed, keep) for name, what in wanted.items() for seed in seeds]
    done: dict[tuple[str, int], Trained] = {}
    missing, said = [], []
    for job in jobs:
        parts = _key_parts(job)
        key = versions.digest(parts)
        entry = build() / "trained" / f"{re.sub('[ ,]+', '-', job.name)}-{key[:12]}"
        if os.environ.get("ILBOOK_FRESH") == "1":
            said.append("training again: asked for by ILBOOK_FRESH")
        elif found := _load(entry, job):
            meta, done[job.name, job.seed] = found
            age, length = _words(time.time() - meta["trained"]), _words(meta["seconds"])
            said.append(f"reused {key[:4]}, trained {age} ago in {length}")
            continue
        else:
            said.append(_why(entry, parts, notebook))
        missing.append((job, parts, entry))
    _say([job.name for job in jobs], said, len(missing))
    trained = _carried_out([job for job, *_ in missing], threads)
    for (job, parts, entry), (meta, weights) in zip(missing, trained, strict=True):
        meta |= {"notebook": notebook, "parts": parts}
        meta["weights"] = {file: versions.sha(content) for file, content in weights.items()}
        _store(entry, job.name, meta, weights)
        done[job.name, job.seed] = _opened(job, meta, weights)
    policies = {name: {seed: done[name, seed].policy for seed in seeds} for name in wanted}
    return {name: replace(done[name, seeds[0]], policies=trained) for name, trained in policies.items()}


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
    groups = {
        "settings": {**asdict(job.settings), "keep": job.keep},
        "data": source,
        "policy": mine["notebook"] | {"weights": mine["state"]},
        "version": versions.known({*LEARNING, *mine["parts"], *source.pop("parts")}),
    }
    parts = {f"{group}.{name}": value for group, held in groups.items() for name, value in held.items()}
    return parts | {"seed": job.seed}


def _say(names: list[str], said: list[str], to_do: int) -> None:
    """A line for each training, or one for many."""
    each = "\n".join(f"{name}: {words}" for name, words in zip(names, said, strict=True))
    many = f"{names[0]} to {names[-1]}: {len(names)} trainings, {len(names) - to_do} of them reused"
    print(many if len(names) > MOST_LINES else each)


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


def _opened(job: Job, meta: dict, weights: dict[str, bytes]) -> Trained:
    """A training from its files: what a page gets was always loaded, whether it was just trained or not."""
    import safetensors.torch

    from ilbook.policies.base import device

    policies = {}
    for file, content in weights.items():
        policies[file] = copy.deepcopy(job.policy)
        policies[file].load_state_dict(safetensors.torch.load(content))
        policies[file].to(device()).eval()
    used.note(*meta["used"])
    last = {job.seed: policies.pop(WEIGHTS)}
    return Trained(last, meta["history"], {int(file.partition(".")[0]): one for file, one in policies.items()})


def _store(entry: Path, name: str, meta: dict, weights: dict[str, bytes]) -> None:
    """Write the entry beside its place, then rename it; a full disk costs the reuse, not the training."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=entry.parent) as folder:
            for file, content in weights.items():
                Path(folder, file).write_bytes(content)
            Path(folder, META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            shutil.rmtree(entry, ignore_errors=True)  # damaged, or to be trained afresh
            Path(folder).rename(entry)
    except OSError as error:
        # Another process that stored the same key a moment earlier also ends here, harmlessly.
        if not entry.is_dir():
            print(f"{name}: trained, but not stored for reuse in {entry.parent}: {error.strerror or error}")


def _load(entry: Path, job: Job) -> tuple[dict, Trained] | None:
    """A stored training; None if there is none, it is damaged, or a part that it used behaves differently now."""
    with suppress(*DAMAGES):
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        weights = {file: (entry / file).read_bytes() for file in meta["weights"]}
        whole = {file: versions.sha(content) for file, content in weights.items()} == meta["weights"]
        if whole and versions.known(meta["used"]) == meta["used"]:
            return meta, _opened(job, meta, weights)
    return None


def _why(entry: Path, parts: dict, notebook: str) -> str:
    """Why there is a training to do: the first of its name, a damaged entry, or what changed since the nearest one."""
    if entry.exists():
        return f"training again: the stored {entry.name} is damaged, or a part that it used has changed"
    changes = []
    for sibling in sorted(entry.parent.glob(f"{entry.name[:-12]}{'?' * 12}/{META}")):
        with suppress(*DAMAGES):
            meta = json.loads(sibling.read_text(encoding="utf-8"))
            if meta["notebook"] == notebook:
                changes.append(list(_changed(meta["parts"], parts)))
    return f"training again: {', '.join(min(changes, key=len))} changed" if changes else "training (new)"


def _changed(old: dict, new: dict) -> Iterator[str]:
    """Each part of the key that differs, with what it was and is where that is no hash."""
    for name in {**old, **new}:
        if (was := old.get(name)) != (now := new.get(name)):
            yield f"{name} ({was} -> {now})" if name.startswith(("settings.", "seed")) else name


def _words(seconds: float) -> str:
    """A duration a reader takes in at a glance: "41 s", "2 days"; in the largest unit of which there are two."""
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{max(seconds, 0):.1f} s"
