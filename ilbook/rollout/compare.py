"""Several policies on the same starts, blind if wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ilbook import used
from ilbook.control.base import Controller
from ilbook.errors import UserError, unknown
from ilbook.rollout import EVALUATED
from ilbook.rollout.evaluate import Rollout, evaluate
from ilbook.tasks.base import Task

LETTERS, DIGITS = "ABCDEFGHKLMNPQRSTUVWXYZ", "23456789"  # nothing that looks like something else
Arm = Controller | Mapping[int, Controller]  # one controller, or one for each training seed


@dataclass(frozen=True)
class Comparison:
    """The rollouts of several policies from the same starts: one for each policy, training seed and way to execute."""

    rollouts: tuple[Rollout, ...]

    @property
    def table(self) -> pd.DataFrame:
        """All episodes, a row each; see `Rollout`."""
        return pd.concat([rollout.table for rollout in self.rollouts], ignore_index=True)

    def __getitem__(self, policy: str) -> Rollout:
        """The first rollout of a policy: the one to look at."""
        names = [rollout.table["policy"].iloc[0] for rollout in self.rollouts]
        if policy not in names:
            raise unknown("policy of this comparison", policy, dict.fromkeys(names))
        return self.rollouts[names.index(policy)]


def compare(
    task: Task, arms: Mapping[str, Arm | Sequence[Arm]], start_seeds: Sequence[int], progress: Callable | None = None
) -> Comparison:
    """Run every policy, in each of its trainings, from the same starts; a `Blind` in place of the dict hides names.

    A list of arms is one policy executed in several ways, which the table tells apart. `progress(episodes ended)`.
    """
    used.note("rollout.compare")
    if not arms:
        raise UserError("a comparison needs at least one policy; give {name: controller}")
    rollouts = []
    for name, given in arms.items():
        for arm in given if isinstance(given, Sequence) else [given]:
            arm = arm.executing() if hasattr(arm, "executing") else arm  # what `run.train` gave
            for train_seed, controller in (arm if isinstance(arm, Mapping) else {0: arm}).items():
                if not isinstance(controller, Controller):
                    advice = "give a controller, such as RecedingHorizon(policy), or one for each training seed"
                    raise UserError(f"policy {name!r} is a {type(controller).__name__}; {advice}")
                rollouts.append(evaluate(task, controller, start_seeds, name, train_seed, progress=progress))
        if isinstance(arms, Blind):
            arms.scored(name)
    return Comparison(tuple(rollouts))


class Blind(Mapping[str, Arm]):
    """Policies under random codes, in random order, so that whoever scores does not know which is which.

    To be handed to `compare`, or read like a dict to score by hand: then call `scored(code)` after each policy.
    """

    def __init__(self, arms: Mapping[str, Arm], rng: np.random.Generator):
        if not 2 <= len(arms) <= len(LETTERS):
            raise UserError(f"a blind trial of {len(arms)} policies hides nothing; give 2 to {len(LETTERS)}")
        letters = rng.choice(list(LETTERS), len(arms), replace=False)
        codes = [f"{letter}{rng.choice(list(DIGITS))}" for letter in letters]
        names = [list(arms)[i] for i in rng.permutation(len(arms))]
        self._names = dict(zip(codes, names, strict=True))
        self._arms = {code: arms[name] for code, name in self._names.items()}
        self.order: list[str] = []  # codes in the order in which they were scored
        self.unsealed = False

    def __getitem__(self, code: str) -> Arm:
        if self.unsealed:
            raise UserError("this trial is unsealed, so scoring would no longer be blind; make a new Blind")
        return self._arms[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arms)

    def __len__(self) -> int:
        return len(self._arms)

    def __repr__(self) -> str:
        return f"Blind({', '.join(self)}; {len(self.order)} scored)"

    def scored(self, code: str) -> None:
        """All scores of this policy are in: from here on a claim about it comes too late."""
        if code not in self._names:
            raise unknown("code", code, self._names)
        EVALUATED.append(self._names[code])
        if code not in self.order:
            self.order.append(code)

    def unseal(self) -> dict[str, str]:
        """Which code was which policy, in the order of scoring; refused before every policy has been scored."""
        if missing := ", ".join(code for code in self if code not in self.order):
            raise UserError(f"{missing} not scored yet; score every policy, blindly, then unseal")
        self.unsealed = True
        return {code: self._names[code] for code in self.order}

    def reveal(self, result: Comparison) -> Comparison:
        """Unseal, and put the names back: the table tells the code of each policy in a last column."""
        names, rollouts = self.unseal(), []
        for rollout in result.rollouts:
            code = rollout.table["policy"]
            rollouts.append(Rollout(rollout.table.assign(policy=code.map(names), code=code), rollout.states))
        return Comparison(tuple(rollouts))
