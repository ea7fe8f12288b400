"""What the demonstrators do: each leads hands through a world without physics, in its human style and as a clumsy one.

There, a hand is where it was sent, and a rule moves what it handles: the physics of a task must not move the trace of
its expert, and nothing doubles small differences.
"""

from functools import partial

import numpy as np

from ilbook import experts
from ilbook.experts import avoid as avoid_expert
from ilbook.experts import pusht as pusht_expert
from ilbook.experts.base import Style, graded
from ilbook.tasks import arm, insert, pusht
from tests.golden.registry import trace

STEPS, OFTEN = 72, 6  # steps of an episode, and how many of them pass between two that are shown
LATE = 40  # steps until somebody else has put the last hand back to its start
COPIES = 3


# -- what follows from the commands (N, A) of hands in states (N, S), which these change ------------------------------
def obey(state: np.ndarray, command: np.ndarray) -> None:
    """What a task does that has no rule of its own: the hand is where it was sent, and nothing else moves."""
    state[:, : command.shape[1]] = command


def avoid(state: np.ndarray, command: np.ndarray) -> None:
    """The hand is a little behind."""
    state[:, :2] += 0.8 * (command - state[:, :2])


def push(state: np.ndarray, command: np.ndarray) -> None:
    """A block that is touched comes a twelfth nearer to its target."""
    state[:, :2] = command
    touched = pusht.distance_to_block(command, state[:, 2:5]) < pusht.PUSHER_RADIUS + 0.001
    state[touched, 2:5] += (pusht.TARGET - state[touched, 2:5]) / 12


def put_in(state: np.ndarray, command: np.ndarray) -> None:
    """A peg stands on the board beside the hole, and jams half way where it leans."""
    tip = insert.to_tip(command, state[:, 3:6])
    lowest = np.where(np.abs(tip[:, 0]) > 0.0005, 0.0, np.where(np.abs(tip[:, 2]) > 0.004, -0.012, -insert.FLOOR))
    tip[:, 1] = np.maximum(tip[:, 1], lowest)
    state[:, :3] = insert.to_hand(tip, state[:, 3:6])


def handle(state: np.ndarray, command: np.ndarray) -> None:
    """A cube between closed jaws keeps them apart and follows them, and lies on the table else."""
    grasp, _ = arm.forward(command)
    between = np.linalg.norm(grasp - state[:, 6:9], axis=1) < 0.015
    state[:, :6] = command
    state[between, 5] = np.maximum(command[between, 5], 0.14)
    held = between & (command[:, 5] < 0.1)
    state[held, 6:9] = grasp[held]
    state[~held, 8] = np.maximum(arm.CUBE, state[~held, 8] - 0.02)


RULES = {"avoid": avoid, "insert": put_in, "lift": handle, "pickplace": handle, "pusht": push}


class Puppets:
    """Copies of a task that are moved by a rule."""

    def __init__(self, name: str, states: np.ndarray):
        self.state, self.rule = states.copy(), RULES.get(name, obey)

    def see(self, inputs, copies=None) -> dict[str, np.ndarray]:
        return {name: self.state[copies] for name in inputs}

    def step(self, action: np.ndarray) -> None:
        self.state[:, -action.shape[1] :] = action
        self.rule(self.state, action)


def demonstrates(name: str) -> dict:
    """What is meant and what is done, with the state that it led to, of hands of both styles."""
    expert_type, shown = experts.get(name), {}
    worse = graded("worse", mode=expert_type.n_modes - 1)
    for style, mode in (("human", expert_type.human), ("worse", worse), ("knocked", Style(knock=0.2, mode=0))):
        expert, states = expert_type(mode), expert_type.task.starts([4, (1, 5), 6])
        world, rows = Puppets(name, states), []
        expert.reset([(7, k) for k in range(COPIES)])
        for step in range(STEPS):
            world.command = world.state[:, -len(expert_type.task.action_low) :].copy()
            decision = expert.decide(world, np.ones(COPIES, dtype=bool))
            if step % OFTEN == 0:
                rows.append(np.concatenate([decision.label, decision.action], axis=1))
            world.step(decision.action)
            if step == LATE:
                world.state[-1] = states[0]
                expert.take_over(states[:1], np.array([COPIES - 1]))
        shown[style], shown[f"{style} states"] = np.stack(rows), world.state
    return shown


# What a module works out once, when it is imported.
LAID_OUT = {
    "avoid": lambda: {"gaps": np.concatenate(avoid_expert.GAP_POINTS)},
    "pusht": lambda: {"ring": pusht_expert._ring(0.03, 0.05)},
}


def of_expert(name: str) -> dict:
    """All of an expert."""
    return demonstrates(name) | LAID_OUT.get(name, dict)()


for expert in experts.names():
    trace(f"experts.{expert}", tolerance=1e-6)(partial(of_expert, expert))
