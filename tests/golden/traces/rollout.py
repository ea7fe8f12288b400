"""What rollouts do with a task and a controller that are written down here, so that no physics of a task shows."""

from dataclasses import dataclass, replace

import mujoco
import numpy as np

from ilbook.control.base import Controller, Decision
from ilbook.experts.base import Style
from ilbook.rollout.compare import Blind, compare
from ilbook.rollout.evaluate import evaluate
from ilbook.rollout.play import play
from ilbook.rollout.record import demonstrate, demonstrate_graded, record
from ilbook.tasks.base import Task
from tests.golden.registry import trace

MODEL = """<mujoco><option timestep="0.02" gravity="0 0 0"/>
<worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="0.01" mass="1"/></body></worldbody>
<actuator><position name="x" joint="x" kp="400" dampratio="1"/></actuator></mujoco>"""


@dataclass(frozen=True, repr=False)
class Slide(Task):
    """A mass on a rail: beyond 1 m it is there (mode 1, or 0 from the left half), beyond -1 m lost."""

    max_steps: int = 12

    name = "slide"
    control_hz, substeps, max_speed = 10.0, 5, 2.0
    state_names, obs_names = ("x", "command"), ("x",)
    action_low, action_high = np.array([-2.0]), np.array([2.0])

    def load_model(self, looks=True):
        return mujoco.MjModel.from_xml_string(MODEL)

    def start(self, rng):
        return np.repeat(rng.uniform(-0.5, 0.5), 2)

    @staticmethod
    def observe(state):
        return 2 * state[..., :1]

    def memory(self, n):
        return {"from": np.zeros(n)}

    def judge(self, sim, index, trace):
        at = trace[:, -1, 0]
        sim.memory["from"][index] = np.where(sim.length[index] == 0, at, sim.memory["from"][index])
        sim.success[index], sim.failure[index] = at > 1, at < -1
        sim.score[index] = np.clip(at, 0, 1)

    def info(self, sim):
        return {"mode": np.where(sim.success, (sim.memory["from"] > 0).astype(int), -1)}

    def render(self, states, size=96, nice=False):
        return np.broadcast_to((100 + 50 * states[:, :1, None, None]), (len(states), size, size, 3)).astype(np.uint8)


class Mover(Controller):
    """Moves by a step that is drawn anew each time; means a little less. It sends nonsense left of `wild`."""

    takes_turns, n_modes = False, 3
    human, demo_task = Style(speed=0.2), Slide()
    inputs = ("state",)

    def __init__(self, style: Style = human, modes=None, wild: float = -9.0):
        super().__init__(seed=2)
        self.columns = {"speed": style.speed}
        self.style, self.wild = style, wild

    def _begin(self, copies, everything):
        if everything:
            self._state = np.zeros((len(copies), 2))

    def request(self, seen, copies):
        self._state[copies] = seen["state"]

    def deliver(self, question, answer, late=0): ...

    def action(self, alive, command):
        mode = self.style.mode or 0
        drawn = np.array([generator.uniform(-0.05, 0.15) for generator in self._generators])[:, None]
        label = command + self.style.speed * (1 + 0.1 * mode) * (0.5 + drawn)
        label[self._state[:, 0] < self.wild] = np.nan
        return Decision(label + 0.01, label, alive)


class Turner(Mover):
    takes_turns, n_modes = True, 2


def shown(episodes) -> dict:
    """Enough of episodes to see all of them, in a few numbers."""
    sums = {name: [float(np.sum(episode[name], dtype=float)) for episode in episodes] for name in episodes.arrays}
    return {"ends": episodes.episode_ends, **sums, **{f"meta {key}": value for key, value in episodes.meta.items()}}


def named(name: str, values: dict) -> dict:
    return {f"{name}: {key}": value for key, value in values.items()}


def columns(table) -> dict:
    table = table.drop(columns="wall_seconds")
    return {name: table[name].to_list() if table[name].dtype.kind in "iufb" else table[name].astype(str).to_list()
            for name in table}  # fmt: skip


@trace("rollout.play", tolerance=1e-6)
def played():
    found = {}
    for name, more in {
        "plain": {},
        "refilled": {"refill": iter([7, 8])},
        "chances": {"chances": [(0, 1), (0, 2)], "camera": 2},
        "states": {"states": np.array([[0.5, 0.6], [0.9, 0.8]])},
    }.items():
        rows = []
        for step in play(Slide().batch(2), Mover(wild=-0.2), [0, 1], **more):
            then = step.following().action[:, 0] if name == "refilled" else []
            picture = [] if step.picture is None else step.picture.sum(axis=(1, 2, 3)) * np.ones(2)
            seen = step.state[:, 0], step.decision.action[:, 0], step.sim.state[:, 0], then, picture
            rows.append(np.concatenate([*seen, step.alive, step.finished, np.array(step.seeds)]))
        found[name] = np.stack(rows)
    return found


@trace("rollout.evaluate", tolerance=1e-6)
def evaluated():
    ended = []
    mixed = evaluate(Slide(), Mover(wild=-0.2), [3, 1, 4, 6], "mover", 7, progress=ended.append)
    same = evaluate(Slide(), Mover(), [5, 5, 5], "mover")
    elsewhere = evaluate(Slide(), Mover(), [2], "mover", states=np.array([[0.7, 0.8]]))
    paths = {f"states {k}": path for k, path in enumerate(mixed.states)}
    return {
        **named("mixed", columns(mixed.table) | paths | {"ended": ended}),
        **named("same", columns(same.table)),
        **named("elsewhere", columns(elsewhere.table) | {"states": elsewhere.states[0]}),
    }


@trace("rollout.compare", tolerance=1e-6)
def compared():
    slow, fast = Mover(Style(speed=0.1)), Mover(Style(speed=0.3))
    arms = {"one": [slow, {0: fast, 1: Mover(Style(speed=0.25))}], "two": Mover()}
    table = compare(Slide(), arms, range(5)).table
    blind = Blind({"slow": slow, "fast": fast}, np.random.default_rng(1))
    result = compare(Slide(), blind, [3, 3])
    opened = blind.reveal(result)
    return {
        **named("open", columns(table)),
        **named("blind", columns(result.table)),
        **named("revealed", columns(opened.table)),
        "names": [*blind.unseal().values()],
        "text": repr(blind),
        "count": len(blind),
        "first": opened["fast"].states[0],
    }


@trace("rollout.record", tolerance=1e-6)
def recorded():
    found = named("all", shown(record(Slide(), Mover(wild=-0.2), range(4), camera=2)))
    found |= named("solved", shown(record(Slide(max_steps=9), Mover(), range(6), only="success")))
    found |= named("one by one", shown(demonstrate(Mover, 4, 3, Style(speed=0.15), patience=0.9)))
    found |= named("in turns", shown(demonstrate(Turner, 4, 3)))
    found |= named("graded", shown(demonstrate_graded(Mover, 6, 3, "okay")))
    found |= named("a mode", shown(demonstrate(Turner, 2, 3, replace(Turner.human, mode=1))))
    return found
