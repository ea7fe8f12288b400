"""What a task is: a value that says where episodes start, what is seen, what counts, and how the world is shifted."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import mujoco
import numpy as np

from ilbook.errors import UserError, unknown
from ilbook.tasks import perturb
from ilbook.tasks.simulation import Simulation

WEAKEST, STRONGEST = -1.0, 2.0  # strengths of perturbations that are accepted; 1 is a clear shift, 0 none
ONE_SIDED = ("distractors", "lag")  # there is no opposite of these
PIXELS = 96  # side of a picture that is observed, as in the literature


@dataclass(frozen=True, repr=False)
class Task(ABC):
    """A task whose actions are target positions of position servos: of an end-effector, or of joints.

    A value: a variant is the same class with other numbers, as in `PushT(shift={"friction": 1.0})`, and its `repr` says
    which. A *state* (S,) puts a copy back at rest: joint positions, first those of the servos, then what these follow.
    """

    shift: Mapping[str, float] = ()  # perturbation -> strength; kept as sorted pairs
    max_steps: int = 300  # control steps in an episode
    push_chance: float = 1.0  # of an episode to have its push, where the shift has pushes

    name: ClassVar[str]  # of the folder with its demonstrations
    gym_id: ClassVar[str]
    control_hz: ClassVar[float]
    substeps: ClassVar[int]  # physics steps in one control step
    max_speed: ClassVar[float]  # m/s (rad/s), how fast the commanded position may move
    weight: ClassVar[float | np.ndarray] = 1.0  # what a unit of each action counts in that speed: a scalar or (A,)
    obs_names: ClassVar[tuple[str, ...]]
    state_names: ClassVar[tuple[str, ...]]
    action_low: ClassVar[np.ndarray]  # (A,) metres or radians
    action_high: ClassVar[np.ndarray]  # (A,)
    obs_limit: ClassVar[float] = 1.0  # no observation is ever farther from zero
    camera: ClassVar[str] = "top"  # which camera of the model takes the pictures
    perturbations: ClassVar[dict[str, str]] = perturb.EVERYWHERE  # distribution shift on purpose: what strength 1 does
    rubbing: ClassVar[tuple[str, ...]] = ()  # geoms of less friction, by their names or classes
    heavy: ClassVar[str]  # the body of more mass
    coloured: ClassVar[tuple[str, ...]] = ()  # geoms of another hue, by their names or classes
    room: ClassVar[tuple]  # m, two corners (2, 3) between which distractors lie
    distractor: ClassVar[float] = 0.02  # m, how large they are
    push_joints: ClassVar[tuple[str, ...]] = ()  # what the perturbation "push" acts on
    push_force: ClassVar[float] = 0.0  # N (N m) at strength 1, along a random direction of these joints
    push_time: ClassVar[float] = 0.15  # s
    push_window: ClassVar[tuple[float, float]] = (0.1, 0.4)  # shares of `max_steps` between which it begins

    def __post_init__(self) -> None:
        given = dict(self.shift)
        for name, strength in given.items():
            if name not in self.perturbations:
                raise unknown(f"perturbation of {self.name}", name, self.perturbations)
            weakest = 0.0 if name in ONE_SIDED else WEAKEST
            if not weakest <= strength <= STRONGEST:
                wanted = f"{weakest:g} to {STRONGEST:g}, where 0 changes nothing"
                raise UserError(f"{self.name}: perturbation {name} has the strength {strength}; choose {wanted}")
        object.__setattr__(self, "shift", tuple((name, float(s)) for name, s in sorted(given.items()) if s))
        if self.max_steps < 1:
            raise UserError(f"{self.name}: max_steps is {self.max_steps}; an episode has at least one step")
        if not 0 <= self.push_chance <= 1:
            raise UserError(f"{self.name}: push_chance is {self.push_chance}; choose 0 to 1")
        if self.push_chance < 1 and not self.strength("push"):
            raise UserError(f"{self.name}: push_chance is given and nothing pushes; add shift={{'push': 1.0}}")

    def __repr__(self) -> str:
        values = vars(self) | {"shift": dict(self.shift) or ()}
        changed = [f"{one.name}={values[one.name]!r}" for one in fields(self) if values[one.name] != one.default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def shifted(self, **strengths: float) -> Self:
        """This task with a distribution shift, on top of its own: `PushT().shifted(friction=1.0, push=0.5)`."""
        return replace(self, shift={**dict(self.shift), **strengths})

    def strength(self, name: str) -> float:
        """How strong a perturbation of this task is; 0 for those that it does not have."""
        return dict(self.shift).get(name, 0.0)

    def batch(self, n_copies: int = 1, threads: int | None = None) -> Simulation:
        """A simulation of `n_copies` of this task, stepped together in C++ threads; see `Simulation`."""
        return Simulation(self, n_copies, threads)

    def load_model(self, looks: bool = True) -> mujoco.MjModel:
        """The model with its perturbations; without `looks` it lacks what is only looked at: faster, the same bits."""
        spec = mujoco.MjSpec.from_file(str(Path(__file__).with_name(f"{self.name}.xml")))
        self._perturb(spec)
        model = spec.compile()
        if looks:
            return model
        fixed = model.body_weldid[model.geom_bodyid] == 0  # no moving body takes mass or inertia from such geoms
        light = [geom for geom in spec.geoms if fixed[geom.id] or geom.mass == 0 or geom.parent.explicitinertial]
        untouched = [geom for geom in light if not (geom.contype or geom.conaffinity)]
        for element in (*untouched, *spec.cameras, *spec.lights):
            spec.delete(element)
        return spec.compile()

    def _perturb(self, spec: mujoco.MjSpec) -> None:
        """Edit the model by the strengths of this task, before it is compiled; each task adds its "size"."""
        perturb.friction(spec, self.rubbing, self.strength("friction"))
        perturb.mass(spec, self.heavy, self.strength("mass"))
        perturb.camera(spec, self.camera, self.strength("camera"))
        perturb.colours(spec, self.coloured, self.strength("colours"))
        perturb.distractors(spec, self.room, self.distractor, self.strength("distractors"))
        perturb.lag(spec, self.strength("lag"))

    def render(self, states: np.ndarray, size: int = PIXELS, nice: bool = False) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of states (n, S); `nice` ones have shadows and are for videos."""
        from ilbook.draw.render import renderer

        joints = np.atleast_2d(states)[:, : -len(self.action_low)]  # what the servos are told is not to be seen
        return renderer(self, size, nice).frames(joints)

    # -- what a task defines ------------------------------------------------------------------------------------------
    @abstractmethod
    def start(self, rng: np.random.Generator) -> np.ndarray:
        """One random initial state (S,)."""

    @staticmethod
    @abstractmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """Observations (..., O) of states (..., S)."""

    def goal(self, state: np.ndarray) -> np.ndarray:
        """What a solved situation looks like (..., G), in units of the observation, for states (..., S)."""
        raise UserError(f"{self.name} shows no goal; take 'goal' out of the policy's inputs")

    def memory(self, n: int) -> dict[str, np.ndarray]:
        """What `judge` has to remember of n fresh episodes: arrays (n, ...), kept in `Simulation.memory`."""
        return {}

    @abstractmethod
    def judge(self, sim: Simulation, index: np.ndarray, trace: np.ndarray) -> None:
        """Update `success`, `failure`, `score` of the copies `index` (n,) from their joint positions (n, K, nq)."""

    def reward(self, sim: Simulation) -> np.ndarray:
        """How good the situation of each copy is (N,), from 0 to 1; for reinforcement learning."""
        return sim.score.copy()

    def info(self, sim: Simulation) -> dict[str, np.ndarray]:
        """More columns of the rollout table, each (N,)."""
        return {}

    def starts(self, seeds: Iterable[int | tuple[int, ...]]) -> np.ndarray:
        """Initial states (len(seeds), S), each by its seed alone: numbers for judging, tuples for demonstrations."""
        words = [[*seed, 1] if isinstance(seed, tuple) else [int(seed), 7919] for seed in seeds]
        return np.stack([self.start(np.random.default_rng(word)) for word in words])

    def draw_push(self, state: np.ndarray, model: mujoco.MjModel) -> tuple[int, np.ndarray]:
        """When the push of an episode begins, and its force (nv,); by its start alone, so that all meet the same."""
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(state).tobytes()))
        follows, when = rng.random(2)
        first, last = self.push_window
        begin = first + when * (last - first) if follows < self.push_chance else 1.0
        direction, force = rng.standard_normal(len(self.push_joints)), np.zeros(model.nv)
        direction *= self.push_force * self.strength("push") / np.linalg.norm(direction)
        force[[model.joint(name).dofadr[0] for name in self.push_joints]] = direction
        return int(begin * self.max_steps), force
