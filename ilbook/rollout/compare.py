"""Several policies on the same starts: in batches that survive an interruption, blind if wanted, with films."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ilbook.errors import UserError, unknown
from ilbook.rollout import store as trial_store
from ilbook.rollout.evaluate import Controller, Rollout, check_starts, evaluate, note_evaluation, report_invalid
from ilbook.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

    from ilbook.page.media import Film, Picture

LETTERS, DIGITS = "ABCDEFGHKLMNPQRSTUVWXYZ", "23456789"  # nothing that looks like something else
# Matrix products of few rows take another path through the library and differ in their last bits, which contact then
# amplifies. With a whole number of 16 rows they did not differ in any of 210 small networks (MKL 2024.2, AMD EPYC).
ROWS = 16
PAIR = ["policy", "train_seed", "perturbation"]  # one series of episodes

# A controller, or make(train_seed, batch): a policy with chance can so draw other numbers in each batch, as in
# lambda train_seed, batch: RecedingHorizon(policies[train_seed], n_exec=3, seed=batch).
Maker = Callable[[int, int], Controller]


@dataclass(frozen=True)
class Comparison:
    """The episodes of several policies from the same starts; see `Rollout` for the table."""

    table: pd.DataFrame
    states: dict[tuple[str, int], list[np.ndarray]]  # by policy and training seed: per start (length + 1, S)
    films: dict[int, StartFilm]  # by start, for the starts that were asked for


def compare(
    task_type: type[Task],
    controllers: Mapping[str, Controller | Maker],
    start_seeds: Sequence[int],
    train_seeds: Sequence[int] = (0,),
    batch: int | None = None,
    keep: Path | None = None,
    film: Sequence[int] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """Run every policy (and training seed) from the same starts; a `Blind` in place of the dict hides their names.

    `batch` episodes at a time (default: all); without chance in the policy the split changes no number. Controllers
    see up to 15 rows more than there are episodes. Finished batches are kept in the folder `keep`, by content, and a
    second call goes on from there. `film` names starts to be shown. `progress(episodes done, of, policy)`: see `Bar`.
    """
    starts, train_seeds = check_starts(start_seeds), list(train_seeds)
    size = len(starts) if batch is None else batch
    if size < 1:
        raise UserError(f"batch is {batch}; give the number of episodes to run at a time, at least 1")
    if not controllers or not train_seeds or len(set(train_seeds)) < len(train_seeds):
        raise UserError("a comparison needs at least one policy, and training seeds that are listed once each")
    for start in film:
        if start not in starts:
            raise unknown("start to film", start, map(str, starts))
    blind = controllers if isinstance(controllers, Blind) else None
    total, done, parts, states = len(controllers) * len(train_seeds) * len(starts), 0, [], {}
    for name, given in controllers.items():
        (blind.begin(name) if blind else note_evaluation(name))
        for train_seed in train_seeds:
            mine = []
            for number, first in enumerate(range(0, len(starts), size)):
                some = starts[first : first + size]
                controller = _controller(name, given, train_seed, number, len(train_seeds))
                tell = progress and _teller(progress, name, done, total, len(some))
                mine.append(_batch(task_type, controller, some, name, train_seed, keep, tell))
                done += len(some)
                if progress:
                    progress(done, total, name)
            parts += mine
            states[name, train_seed] = [episode for rollout in mine for episode in rollout.states]
        if blind:
            blind.scored(name)
    table = gather(part.table for part in parts)
    return Comparison(table, states, {start: _film(task_type, table, states, starts, start) for start in film})


def gather(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table of several rollouts, after the check that every policy and training seed had the same starts."""
    import pandas as pd

    tables = list(tables)
    if not tables or not sum(map(len, tables)):
        raise UserError("there are no episodes to gather; evaluate the policies first")
    table = pd.concat(tables, ignore_index=True)
    if (again := table.duplicated([*PAIR, "start"])).any():
        row = table[again].iloc[0]
        raise UserError(f"policy {row['policy']!r} has start {row['start']} twice; evaluate each start once")
    first: tuple[str, set] | None = None
    for (policy, train_seed, _), episodes in table.groupby(PAIR, sort=False):
        mine = set(episodes["start"])
        first = first or (f"{policy!r} (training seed {train_seed})", mine)
        if mine != first[1]:
            raise UserError(
                f"{policy!r} (training seed {train_seed}) and {first[0]} had different starts "
                f"({len(mine ^ first[1])} are not shared); evaluate all on one list of initial states"
            )
    return table


def _controller(name: str, given: object, train_seed: int, batch: int, n_seeds: int) -> Controller:
    if not hasattr(given, "act") and callable(given):
        given = given(train_seed, batch)
    elif n_seeds > 1:
        raise UserError(
            f"policy {name!r} is one controller, but {n_seeds} training seeds are asked for; give a function "
            "(train_seed, batch) that makes the controller of each"
        )
    if not (hasattr(given, "act") and hasattr(given, "reset")):
        raise UserError(f"policy {name!r} is a {type(given).__name__}; give a controller with reset and act")
    return given


def _batch(
    task_type: type[Task],
    controller: Controller,
    starts: list[int],
    name: str,
    train_seed: int,
    keep: Path | None,
    progress: Callable[[int, int], None] | None,
) -> Rollout:
    """One batch of episodes, from the folder `keep` if they lie there."""
    entry = trial_store.entry(keep, task_type, controller, starts, ROWS) if keep else None
    found = trial_store.load(entry, starts, name, train_seed) if entry else None
    if found is not None:
        report_invalid(found.table)
        return found
    rollout = evaluate(task_type, _FullRows(controller), starts, name, train_seed, progress)
    if entry:
        trial_store.save(entry, rollout)
    return rollout


class _FullRows:
    """A controller that is shown a whole number of `ROWS` rows, the last episode standing in for those that lack."""

    def __init__(self, controller: Controller):
        self.controller = controller

    def reset(self) -> None:
        self.controller.reset()

    def act(self, obs: np.ndarray) -> np.ndarray:
        n = len(obs)
        full = np.concatenate([obs, np.repeat(obs[-1:], -n % ROWS, axis=0)])
        answer = self.controller.act(full)
        return answer[:n] if len(np.atleast_1d(answer)) == len(full) else answer  # `evaluate` refuses a wrong one


def _teller(progress: Callable[[int, int, str], None], name: str, before: int, total: int, n: int):
    return lambda step, running: progress(before + n - running, total, name)


class Blind(Mapping[str, object]):
    """Policies under random codes, in random order, so that whoever scores does not know which is which.

    To be handed to `compare`, or read like a dict to score by hand: then call `scored(code)` after each policy.
    """

    def __init__(self, controllers: Mapping[str, Controller | Maker], rng: np.random.Generator):
        if not 2 <= len(controllers) <= len(LETTERS):
            raise UserError(f"a blind trial of {len(controllers)} policies hides nothing; give 2 to {len(LETTERS)}")
        letters = rng.choice(list(LETTERS), len(controllers), replace=False)
        codes = [f"{letter}{rng.choice(list(DIGITS))}" for letter in letters]
        names = [list(controllers)[i] for i in rng.permutation(len(controllers))]
        self._names = dict(zip(codes, names, strict=True))
        self._controllers = {code: controllers[name] for code, name in self._names.items()}
        self.order: list[str] = []  # codes in the order in which they were scored
        self.unsealed = False

    def __getitem__(self, code: str) -> Controller | Maker:
        return self._controllers[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._controllers)

    def __len__(self) -> int:
        return len(self._controllers)

    def __repr__(self) -> str:
        return f"Blind({', '.join(self)}; {len(self.order)} scored)"

    def begin(self, code: str) -> None:
        """The scoring of a policy begins: from here on a claim about it comes too late."""
        if self.unsealed:
            raise UserError("this trial is unsealed, so scoring would no longer be blind; make a new Blind")
        if code not in self._names:
            raise unknown("code", code, self._names)
        note_evaluation(self._names[code])

    def scored(self, code: str) -> None:
        """All scores of this policy are in."""
        self.begin(code)
        if code not in self.order:
            self.order.append(code)

    def unseal(self) -> dict[str, str]:
        """Which code was which policy, in the order of scoring; refused before every policy has been scored."""
        missing = [code for code in self if code not in self.order]
        if missing:
            raise UserError(
                f"{', '.join(missing)} not scored yet, and who knows the names no longer scores blindly; "
                "score every policy, then unseal"
            )
        self.unsealed = True
        return {code: self._names[code] for code in self.order}

    def reveal(self, result: Comparison) -> Comparison:
        """Unseal, and put the names back: the table tells the code of each policy in a last column."""
        names = self.unseal()
        table = result.table.assign(policy=result.table["policy"].map(names), code=result.table["policy"])
        states = {(names[code], train_seed): episodes for (code, train_seed), episodes in result.states.items()}
        films = {start: film.renamed(names) for start, film in result.films.items()}
        return Comparison(table, states, films)


@dataclass(frozen=True)
class StartFilm:
    """All policies from one start, side by side; drawn when it is shown."""

    task_type: type[Task]
    start: int
    episodes: dict[tuple[str, int], np.ndarray]  # (length + 1, S)
    success: tuple[bool, ...]

    def frames(self, size: int = 160) -> np.ndarray:
        """(T, H, W, 3) uint8, in the order of `episodes`; borders tell the outcome."""
        from ilbook.page import media

        task = self.task_type(1)
        films = [task.render(states, size) for states in self.episodes.values()]
        return media.grid(films, success=self.success, columns=min(4, len(films)))

    @cached_property
    def film(self) -> Film | Picture:
        """The film with its description."""
        from ilbook.page import media

        words = [
            f"{policy} ({'solved' if solved else 'not solved'})"
            for (policy, _), solved in zip(self.episodes, self.success, strict=True)
        ]
        title = f"From start {self.start}: {', '.join(words)}"
        return media.show(self.frames(), self.task_type.control_hz, title, alt=title)

    def renamed(self, names: Mapping[str, str]) -> StartFilm:
        return replace(self, episodes={(names[code], seed): states for (code, seed), states in self.episodes.items()})

    def _repr_html_(self) -> str:
        return self.film._repr_html_()


def _film(task_type: type[Task], table: pd.DataFrame, states: dict, starts: list[int], start: int) -> StartFilm:
    index = starts.index(start)
    here = table[table["start"] == start].set_index(["policy", "train_seed"])["success"]
    success = tuple(bool(here[key]) for key in states)
    return StartFilm(task_type, start, {key: episodes[index] for key, episodes in states.items()}, success)


class Bar:
    """A progress bar of text that takes itself away at the end, in a notebook as in a terminal."""

    WIDTH = 30
    EVERY = 0.2  # s between two pictures of it

    def __init__(self) -> None:
        self._last, self._handle = 0.0, None

    def __call__(self, done: int, total: int, policy: str) -> None:
        now = time.monotonic()
        if done < total and now - self._last < self.EVERY:
            return
        self._last = now
        full = round(self.WIDTH * done / total)
        self._show("" if done >= total else f"[{'#' * full:<{self.WIDTH}}] {done} of {total} episodes, {policy}")

    def _show(self, text: str) -> None:
        import sys

        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if shell is None or not hasattr(shell, "kernel"):
            if sys.stderr.isatty():
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            return
        from IPython.display import display

        if self._handle is None:
            self._handle = display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text}, raw=True)
