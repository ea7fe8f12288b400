"""The one loop: copies of a task, driven by a controller, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ilbook.control.base import Controller, Decision, Seed
from ilbook.errors import UserError
from ilbook.tasks.simulation import Simulation


class Step:
    """One control step, as it stands before any copy begins anew.

    `alive` (N,): who acted. `state` (N, S): before the step; what happened is in `sim`: `sim.state`, `sim.obs`,
    `sim.reward`, `sim.terminated`. `finished` (N,): who has ended just now. `picture` (n, size, size, 3): the copies
    that were alive, before the step, if `play` was given a camera. `seeds` says of each copy which start it runs from.
    """

    def __init__(self, sim, controller, alive, state, decision, picture, seeds):
        self.sim: Simulation = sim
        self.alive: np.ndarray = alive
        self.state: np.ndarray = state
        self.decision: Decision = decision
        self.picture: np.ndarray | None = picture
        self.seeds: list[Seed] = seeds
        self.finished: np.ndarray = alive & sim.done
        self._controller: Controller = controller
        self.next: Decision | None = None

    def following(self) -> Decision:
        """What the controller would do next in every copy that acted, those that have just ended included: what a
        learner needs to judge the last step. The episodes that go on do just that.
        """
        if self.next is None:
            self.next = self._controller.decide(self.sim, self.alive)
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

    With `refill`, a copy that is done begins anew with the next seed of that stream, until it runs dry. `camera` is the
    size of pictures to be taken. A controller's chance comes from the seeds too, or from `chances` where episodes share
    a start. `states` (N, S) puts the copies elsewhere than at their starts, for controllers that take over.
    """
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
        step = Step(sim, controller, alive, state, decision, picture, seeds)
        yield step
        upcoming = step.next
        if refill is not None and step.finished.any():
            new = _begin(sim, controller, np.flatnonzero(step.finished), stream, seeds)
            if upcoming is not None and len(new):
                upcoming = _joined(upcoming, controller.decide(sim, np.isin(np.arange(sim.n_copies), new)), new)


def _begin(sim: Simulation, controller: Controller, copies: np.ndarray, stream, seeds: list[Seed]) -> np.ndarray:
    """Begin new episodes in these copies, as far as the stream of seeds reaches; returns which ones."""
    pairs = list(zip(copies, stream, strict=False))
    if not pairs:
        return copies[:0]
    index, fresh = np.array([copy for copy, _ in pairs]), [seed for _, seed in pairs]
    for copy, seed in pairs:
        seeds[copy] = seed
    sim.reset(sim.task.starts(fresh), index)
    controller.reset(fresh, index)
    return index


def _joined(one: Decision, other: Decision, copies: np.ndarray) -> Decision:
    """`one`, with the rows of `other` for these copies."""
    rows = np.isin(np.arange(len(one.action)), copies)
    more = {name: np.where(rows.reshape(-1, *[1] * (array.ndim - 1)), other.more[name], array) for name, array in
            one.more.items()}  # fmt: skip
    action, label = (np.where(rows[:, None], b, a) for a, b in ((one.action, other.action), (one.label, other.label)))
    return Decision(action, label, np.where(rows, other.asked, one.asked), other.chunk, other.window, more)


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
