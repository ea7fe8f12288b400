"""The one dial of a notebook: smoke, lecture or full; its seeds, its threads, its folder and its results."""

import hashlib
import json
import math
import os
import platform
import random
import re
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ilbook import used
from ilbook.errors import UserError, unknown
from ilbook.page import versions
from ilbook.page.threads import Threads
from ilbook.paths import build, make_folder, write_file
from ilbook.rollout import EVALUATED, WALL_TIME

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ilbook.control.base import Controller
    from ilbook.data.episodes import Episodes
    from ilbook.learning.batches import Batches
    from ilbook.learning.fit import Training
    from ilbook.page.claims import Claim, Verdict
    from ilbook.page.store import Trained
    from ilbook.policies.base import Policy
    from ilbook.rollout.compare import Comparison
    from ilbook.stats import Estimate
    from ilbook.tasks.base import Task

T = TypeVar("T")

PROFILES = ("smoke", "lecture", "full")
MOST_ROWS = 1000  # result tables are committed: a summary belongs there, not every step of every episode
SEEDS_APART = 1000  # run seed 3 trains with 3000, 3001, ...: no two run seeds share a training seed, nor a start
MOST_SEED = 2**22 - 1  # so that every seed which follows from it stays below numpy's limit of 2**32
STARTS = {"test": 100_000, "validation": 200_000}  # what is chosen on one list is judged on the other
SMOKE_BANNER = (
    "> **Smoke profile.** This run only shows that every cell works: trainings are cut to a few steps, "
    "so no claim is evaluated and no number below means anything."
)


def check_profile(name: object) -> None:
    """UserError, with the nearest one, if this is no profile."""
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)


def check_seed(seed: object) -> None:
    """UserError, with those there are, if a run cannot have this seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        raise UserError(f"seed {seed!r} is not a whole number from 0 to {MOST_SEED}; choose one, such as 0")


@dataclass(eq=False)
class Run:
    """One execution of one notebook. Make it with `Run.start`, end it with `finish`."""

    notebook: str
    profile: str
    seed: int
    out: Path
    threads: int
    _key: dict = field(default_factory=dict, repr=False)  # of the notebook as it was when the run started
    _begun: int = field(default_factory=lambda: len(EVALUATED), repr=False)  # evaluations before this run
    _claims: dict[str, "Claim"] = field(default_factory=dict, repr=False)
    _verdicts: dict[str, "Verdict"] = field(default_factory=dict, repr=False)
    _tables: dict[str, list[dict]] = field(default_factory=dict, repr=False)

    @classmethod
    def start(cls, notebook: str, profile: str = "lecture", seed: int = 0) -> "Run":
        """Check the parameters, set threads and global seeds, make the output folder, warn in the smoke profile."""
        if not isinstance(notebook, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]*", notebook):
            raise UserError(f"notebook id {notebook!r} is not a file stem such as '01_first_policy'; correct it")
        check_profile(profile)
        check_seed(seed)
        given = os.environ.get("ILBOOK_OUT")
        # Not where the runner puts its results: what a reader tries must not pass for one of them.
        out = Path(given) if given else build() / "by-hand" / notebook / profile
        run = cls(notebook, profile, seed, make_folder(out), _threads(), _key=versions.key_of_run(notebook))
        _settle(run.threads, seed)
        if profile == "smoke":
            _show(SMOKE_BANNER)
        return run

    def pick(self, *, smoke: T, lecture: T, full: T) -> T:
        """The value for this profile; the only thing in a notebook that may depend on the profile."""
        return {"smoke": smoke, "lecture": lecture, "full": full}[self.profile]

    def rng(self, *stream: int | str) -> "np.random.Generator":
        """A generator for one purpose, such as `rng("starts")` or `rng("noise", 3)`; other streams are independent."""
        import numpy as np

        # The length goes first and a text is hashed whole, so that ("a", "b") and ("ab",) are different streams.
        words = [len(stream)]
        for part in stream:
            if isinstance(part, bool) or not (isinstance(part, str) or (isinstance(part, int) and part >= 0)):
                raise UserError(f"rng stream part {part!r} is no text and no whole number >= 0; use rng('starts')")
            words.append(part if isinstance(part, int) else int.from_bytes(hashlib.sha256(part.encode()).digest()[:8]))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=words))

    @property
    def trainings(self) -> int:
        """How many times an arm of a claim is trained: 3 in the full profile, else 1."""
        return self.pick(smoke=1, lecture=1, full=3)

    def seeds(self, n: int) -> list[int]:
        """`n` training seeds; asking for more keeps the first ones, and no other run seed shares any."""
        return self._apart("training seeds", n)

    def starts(self, n: int, use: str = "test") -> list[int]:
        """`n` start seeds for one use, "test" or "validation"; asking for more keeps the first ones."""
        if use not in STARTS:
            raise unknown("use of starts", use, STARTS)
        return self._apart("starts", n, STARTS[use])

    def _apart(self, what: str, n: int, first: int = 0) -> list[int]:
        if not 1 <= n <= SEEDS_APART:
            raise UserError(f"{n} {what} asked for; ask for 1 to {SEEDS_APART}")
        return [first + self.seed * SEEDS_APART + index for index in range(n)]

    def train(
        self,
        name: str,
        policy: "Policy | Callable[[], Policy] | Mapping",
        data: "Episodes | Batches | Mapping",
        settings: "Training | Mapping",
        keep: int = 0,
        trainings: int | None = None,
    ) -> "Trained | dict[Hashable, Trained]":
        """The policy trained on the data, from the store where exactly this was trained before.

        What a function makes is trained `trainings` times (default: `run.trainings`), each with a seed and initial
        weights of its own; a policy once, from the weights it has. `keep` checkpoints are kept, at equal distances.
        Of dictionaries with the same keys all are trained, side by side, and the answer is a dictionary too.
        """
        from ilbook.page import store

        given = {"policy": policy, "data": data, "settings": settings}
        several = {what: value for what, value in given.items() if isinstance(value, Mapping)}
        keys = list(next(iter(several.values()), ()))
        for what, value in several.items():
            if not keys or value.keys() != set(keys):
                first = next(iter(several))
                raise UserError(f"{name}: {first} is given for {keys} and {what} for {list(value)}; give the same keys")
        made = any(map(store.is_made, policy.values() if "policy" in several else [policy]))
        n = (1 if made else self.trainings) if trainings is None else trainings
        # A dictionary has all keys, and what is no dictionary is the same for each of them.
        wanted = {
            f"{name} {key}": tuple(several.get(what, {key: it})[key] for what, it in given.items()) for key in keys
        }
        trained = store.train(self.notebook, wanted or {name: tuple(given.values())}, self.seeds(n), keep, self.threads)
        return dict(zip(keys, trained.values(), strict=True)) if keys else trained[name]

    def compare(
        self,
        task: "Task",
        arms: "Mapping[str, Trained | Controller | Mapping[int, Controller] | Sequence]",
        starts: Sequence[int],
    ) -> "Comparison":
        """All arms from the same starts; what was trained executes whole chunks, unless `executing` says otherwise.

        An arm is what `run.train` gave, its `executing(n_exec)`, one controller, or a list of these.
        """
        from ilbook.page.live import bar
        from ilbook.rollout.compare import compare

        cores = Threads(self.threads)
        with bar(len(starts) * sum(map(_size, arms.values())), "episodes") as shown:

            def tell(episodes: int) -> None:
                shown.update(episodes)
                cores.look()

            return compare(task, arms, starts, tell)

    def declare(self, claim: "Claim") -> None:
        """Promise to judge `claim` before the run ends; refused once its policy has been evaluated in this run.

        The baseline may have been seen: a page starts from its failure. The same claim declared again starts afresh.
        """
        if self._claims.get(claim.id) != claim and claim.policy in EVALUATED[self._begun :]:
            raise UserError(
                f"claim {claim.id} is declared after its data: this run has already evaluated {claim.policy!r}; "
                "declare it above that evaluation, then restart the kernel and run all cells"
            )
        self._claims[claim.id] = claim
        self._verdicts.pop(claim.id, None)

    def judge(self, claim_id: str, evidence: "pd.DataFrame | Estimate") -> "Verdict":
        """The verdict on a declared claim, from a rollout table (one row per episode) or a ready estimate.

        An estimate is given in the metric's own direction. In the smoke profile the verdict is "not evaluated".
        """
        from ilbook import stats
        from ilbook.page import claims

        if claim_id not in self._claims:
            raise unknown("claim", claim_id, self._claims)
        claim = self._claims[claim_id]
        if isinstance(evidence, stats.Estimate):
            estimate = evidence
        else:
            estimate = stats.from_table(evidence, claim.policy, claim.baseline, claim.metric)
        if claim.direction == "lower":
            estimate = estimate.negated()
        word = "not evaluated" if self.profile == "smoke" else stats.verdict(estimate, claim.minimum)
        self._verdicts[claim_id] = claims.Verdict(claim, word, estimate, self.profile)
        return self._verdicts[claim_id]

    def table(self, name: str, table: "pd.DataFrame | Sequence[dict]") -> None:
        """Keep a small table with the result, at full precision; missing values become null."""
        records = table.to_dict("records") if hasattr(table, "to_dict") else [dict(row) for row in table]
        if len(records) > MOST_ROWS:
            raise UserError(f"result table {name!r} has {len(records)} rows; keep a summary of at most {MOST_ROWS}")
        if any(WALL_TIME in row for row in records):
            what = f"the column {WALL_TIME!r}, which differs from run to run; leave it out"
            raise UserError(f"result table {name!r} has {what}, as in table.drop(columns={WALL_TIME!r})")
        self._tables[name] = [{str(key): _plain(name, value) for key, value in row.items()} for row in records]

    def finish(self) -> None:
        """Write result.json and provenance.json. The last cell of every notebook; without it the run is incomplete.

        result.json follows from notebook and seed, byte by byte; what else differs (time, machine) is in provenance.
        """
        if missing := ", ".join(claim_id for claim_id in self._claims if claim_id not in self._verdicts):
            advice = "call run.judge(...) for it before run.finish()"
            raise UserError(f"notebook {self.notebook} declared but never judged {missing}; {advice}")
        result = {
            "notebook": self.notebook,
            "profile": self.profile,
            "seed": self.seed,
            "token": os.environ.get("ILBOOK_TOKEN"),
            "claims": [self._verdicts[claim_id].record() for claim_id in self._claims],
            "tables": self._tables,
        }
        # Provenance first: a result on disk then always has its provenance beside it.
        write_file(self.out / "provenance.json", json.dumps(self._provenance(), indent=1) + "\n")
        write_file(self.out / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
        words = ", ".join(f"{verdict.claim.id}: {verdict.verdict}" for verdict in self._verdicts.values())
        print(f"{self.notebook} finished ({self.profile}, seed {self.seed}). {words}".rstrip())

    def _provenance(self) -> dict:
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._key,
            "parts": versions.known(used.parts()),
            "commit": versions.commit(),
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "python": platform.python_version(),
            "versions": {name: metadata.version(name) for name in ("numpy", "torch", "mujoco", "gymnasium")},
            "threads": self.threads,
            "device": os.environ.get("ILBOOK_DEVICE") or "cpu",
            "gl": os.environ.get("MUJOCO_GL"),
        }


def _size(arm: object) -> int:
    """How many rollouts an arm needs."""
    if isinstance(arm, list | tuple):
        return sum(map(_size, arm))
    trainings = getattr(arm, "policies", arm)  # of what was trained, or a controller for each
    return len(trainings) if isinstance(trainings, Mapping) else 1


def _threads() -> int:
    given = os.environ.get("ILBOOK_THREADS")
    if given is None:
        return os.cpu_count() or 1
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"ILBOOK_THREADS={given} is not a whole number >= 1; correct it or unset it")
    return int(given)


def _settle(threads: int, seed: int) -> None:
    """Threads for torch, and the global generators: a net under code that forgot to take a generator."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def _show(text: str) -> None:
    """Markdown inside a notebook, plain text elsewhere."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import Markdown, display

        display(Markdown(text))
    else:
        print(text)


def _plain(table: str, value: object) -> object:
    """A JSON value for one table cell."""
    if getattr(value, "ndim", None) == 0:  # a scalar of numpy or torch
        value = value.item()
    number = isinstance(value, float)
    if type(value).__name__ in {"NoneType", "NAType", "NaTType"} or (number and math.isnan(value)):
        return None
    if not isinstance(value, (bool, int, float, str)) or (number and math.isinf(value)):
        kind = f"{value!r}" if number else f"a {type(value).__name__}"
        raise UserError(f"result table {table!r} holds {kind}; keep finite numbers, truth values and text only")
    return value
