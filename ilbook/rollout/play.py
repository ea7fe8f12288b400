"""The one loop: copies of a task, driven by a controller, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ilbook import used
from ilbook.control.base import Controller, Decision, Seed
from ilbook.errors import UserError
from ilbook.tasks.simulation import Simulation


@dataclass
class Step:
    """One control step, as it stands before any copy begins anew."""

    sim: Simulation  # with what happened: `sim.state`, `sim.obs`, `sim.reward`, `sim.terminated`
    controller: Controller
    alive: np.ndarray  # (N,) who acted
    state: np.ndarray  # (N, S) before the step
    decision: Decision
    picture: np.ndarray | None  # (n, size, size, 3) of those alive, before the step, if `play` was given a camera
    seeds: list[Seed]  # which start each copy runs from
    finished: np.ndarray  # (N,) who has ended just now
    next: Decision | None = None

    def following(self) -> Decision:
        """What the controller does next, or would do in copies that have just ended: a learner judges by it."""
        if self.next is None:
            kept = self.controller.save() if self.finished.any() else None
            self.next = self.controller.decide(self.sim, self.alive)
            if kept is not None:  # it decides again when others may have begun
                self.controller.restore(kept)
        return self.next


def play(
    sim: Simulation,
    controller: Controller,
    seeds: Sequence[Seed],
    refill: Iterable[Seed] | None = None,
    camera: int | None = None,
    *,
    chances: Sequence[Seed] | None = None,
    states: np.ndarray | None = None,
) -> Iterator[Step]:
    """Run an episode in every copy from the start that its seed names; yields each step until all are done.

    With `refill`, a copy that is done begins anew with the next seed of that stream. `camera` is the size of pictures.
    Chance comes from the seeds, or from `chances` where episodes share a start; `states` (N, S) takes over elsewhere.
    """
    used.note("rollout.play")
    seeds = list(seeds)
    if len(seeds) != sim.n_copies:
        raise UserError(f"{len(seeds)} seeds for {sim.n_copies} copies of {sim.task.name}; give one for each copy")
    sim.reset(sim.task.starts(seeds) if states is None else states)
    controller.reset(seeds if chances is None else chances)
    if states is not None:
        controller.take_over(sim.state, np.arange(len(seeds)))
    stream, upcoming = iter(() if refill is None else refill), None
    while (alive := ~sim.done).any():
        decision = _checked(controller.decide(sim, alive) if upcoming is None else upcoming, sim, controller)
        state = sim.state
        picture = None if camera is None else sim.task.render(state[alive], camera)
        sim.step(decision.action)
        step = Step(sim, controller, alive, state, decision, picture, list(seeds), alive & sim.done)
        yield step
        upcoming = None if step.finished.any() else step.next
        _begin(sim, controller, np.flatnonzero(step.finished), stream, seeds)


def _begin(sim: Simulation, controller: Controller, copies: np.ndarray, stream, seeds: list[Seed]) -> None:
    """Begin new episodes in these copies, as far as the stream of seeds reaches."""
    while pairs := list(zip(copies, stream, strict=False)):
        index, fresh = np.array([copy for copy, _ in pairs]), [seed for _, seed in pairs]
        for copy, seed in pairs:
            seeds[copy] = seed
        sim.reset(sim.task.starts(fresh), index)
        controller.reset(fresh, index)
        copies = index[sim.done[index]]  # a start that is solved at once is no episode


def _checked(decision: Decision, sim: Simulation, controller: Controller) -> Decision:
    """A decision whose actions fit, or the error that says what the controller should have returned."""
    action = np.asarray(decision.action) if isinstance(decision, Decision) else None
    if action is None or action.dtype.kind not in "fiu" or action.shape != sim.command.shape:
        what = f"a {type(decision).__name__}" if action is None else f"actions of shape {action.shape}"
        raise UserError(
            f"{type(controller).__name__} decided {what} for {sim.n_copies} copies of {sim.task.name}; it must return "
            f"a Decision with numbers of shape {sim.command.shape}, one row a copy"
        )
    return decision
