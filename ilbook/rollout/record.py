"""Episodes from rollouts: what was seen, what was meant, and demonstrations that succeed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ilbook import used
from ilbook.control.base import Controller, Seed
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.experts.base import GRADES, Expert, Style, graded
from ilbook.rollout.play import play
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import Simulation

Arrays = dict[str, np.ndarray]  # of one episode
MORE = 16  # attempts at once where few succeed
SAME_MODE = 100  # attempts at one demonstration in its mode before the style is given up


def record(
    task: Task, controller: Controller, seeds: Sequence[Seed], camera: int | None = None, only: str | None = None
) -> Episodes:
    """One episode from each seed: arrays state (T, S), obs (T, O), action (T, A), what was meant, and executed (T, A),
    float32, SI units; `camera` adds image (T, size, size, 3) uint8. `only` names a column, such as "success": episodes
    without it are left out. `meta` has lists of seed, success, score and the task's `info` of those that are kept.
    """
    sim = task.batch(len(seeds))
    parts = _recorded(sim, controller, seeds, camera)
    good = np.ones(len(seeds), bool) if only is None else np.asarray(getattr(sim, only), bool)
    if not good.any():
        raise UserError(f"{task.name}: none of {len(seeds)} episodes has {only}; try more, or record all of them")
    kept = [i for i in np.flatnonzero(good) if parts[i]]
    columns = {"success": sim.success, "score": sim.score, **sim.info()}
    meta = {"seed": [seeds[i] for i in kept]} | {name: values[kept].tolist() for name, values in columns.items()}
    episodes = Episodes.joined([parts[i] for i in kept], meta)
    return episodes.with_array("obs", task.observe(episodes["state"].astype(np.float64)).astype(np.float32))


def _recorded(sim: Simulation, controller: Controller, seeds: Sequence[Seed], camera=None) -> list[Arrays]:
    """What each copy did, empty where it did nothing that is finite."""
    used.note("rollout.record")
    parts = [defaultdict(list) for _ in seeds]
    for step in play(sim, controller, seeds, camera=camera):
        rows = {"state": step.state, "action": step.decision.label, "executed": step.decision.action}
        rows = {name: values[step.alive].astype(np.float32) for name, values in rows.items()}
        if camera:
            rows["image"] = step.picture
        for name, values in rows.items():
            for i, row in zip(np.flatnonzero(step.alive), values, strict=True):
                if not sim.invalid[i]:  # data must be finite
                    parts[i][name].append(row)
    return [{name: np.stack(rows) for name, rows in part.items()} for part in parts]


def demonstrate(
    expert_type: type[Expert], n: int, seed: int, style: Style | None = None, patience: float = 1.0
) -> Episodes:
    """`n` successful demonstrations: arrays state (T, S) and action (T, A), float32. Actions are the clean targets.

    `style` is the expert's `human` unless told; `patience` multiplies the time of an episode; `meta["tried"]` counts
    failed ones too. An expert that takes turns shows its modes one by one and tries again, others pass to a new start.
    """
    if n < 1:
        raise UserError(f"{n} demonstrations asked for; ask for at least 1")
    style, task = expert_type.human if style is None else style, expert_type.demo_task
    task = replace(task, max_steps=round(patience * task.max_steps))
    return (_in_turns if expert_type.takes_turns else _one_by_one)(expert_type, task, style, n, seed)


def _one_by_one(expert_type: type[Expert], task: Task, style: Style, n: int, seed: int) -> Episodes:
    tries: list[Arrays | None] = []
    while len(kept := [i for i, episode in enumerate(tries) if episode]) < n:
        if (tried := len(tries)) > 20 * n + 20:
            few = f"only {len(kept)} of {tried} demonstrations succeeded"
            raise UserError(f"{task.name}: {few}; choose a gentler style")
        # As many as are missing; where few succeed, ever more at once, of which the last ones are then left out.
        seeds = [(seed, tried + i) for i in range(max(n - len(kept), min(tried, MORE)))]
        tries += _attempts(task, expert_type(style), seeds)
    return Episodes.joined([tries[i] for i in kept[:n]], {"tried": kept[n - 1] + 1})


def _in_turns(expert_type: type[Expert], task: Task, style: Style, n: int, seed: int) -> Episodes:
    modes = np.arange(n) % expert_type.n_modes if style.mode is None else np.full(n, style.mode)
    kept: list[Arrays | None] = [None] * n
    tried = again = 0
    while missing := [i for i in range(n) if not kept[i]]:
        if again == SAME_MODE:
            raise UserError(f"{task.name}: {len(missing)} demonstrations failed {again} times; choose a gentler style")
        expert = expert_type(style)
        expert.turns = modes[missing]
        found = _attempts(task, expert, [(seed, i, again) for i in missing], expert.turns)
        for i, episode in zip(missing, found, strict=True):
            kept[i] = episode
        tried, again = tried + len(missing), again + 1
    return Episodes.joined(kept, {"tried": tried})


def _attempts(task: Task, expert: Expert, seeds: Sequence[Seed], modes=None) -> list[Arrays | None]:
    """States and clean actions of one episode from each seed, None where it failed or had another mode."""
    sim = task.batch(len(seeds))
    parts = _recorded(sim, expert, seeds)
    won = sim.success if modes is None else sim.info()["mode"] == modes
    return [{"state": parts[i]["state"], "action": parts[i]["action"]} if won[i] else None for i in range(len(seeds))]


def demonstrate_graded(expert_type: type[Expert], n: int, seed: int, skill: str, operators: int = 3) -> Episodes:
    """`n` demonstrations of one skill by operators who differ in their mode, as the array operator (T,) int8 says."""
    if n % operators:
        raise UserError(f"{n} demonstrations cannot be shared by {operators} operators; ask for a multiple")
    kept, tried = [], 0
    for operator in range(operators):
        style = graded(skill, mode=operator % expert_type.n_modes)
        own_seed = 100 * seed + 10 * list(GRADES).index(skill) + operator
        part = demonstrate(expert_type, n // operators, own_seed, style, patience=2.0)
        who = np.full(part.n_steps, operator, dtype=np.int8)
        kept += part.with_array("operator", who)
        tried += part.meta["tried"]
    return Episodes.joined(kept, {"tried": tried, "skill": skill})
