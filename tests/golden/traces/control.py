"""What controllers do with a policy that is written down here: which action is executed when."""

import numpy as np
import torch

from ilbook.control.receding import RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.policies.base import Plan, Policy
from tests.golden.registry import trace


class Sum(Policy):
    """A chunk that shows all that it was given, without a network."""

    def __init__(self):
        super().__init__({"obs": (1,), "goal": (1,), "action": (1,)}, 1, Windows(n_obs=2, horizon=6, n_past=2))
        self.noise_shape, self.memory_shapes, self.asked = (6, 1), {"count": (1,)}, []

    def plan(self, obs, noise, promise, memory, fresh):
        count = torch.where(fresh[:, None], 0.0, memory["count"]) + 1
        self.asked.append([len(fresh), *promise[1][0].tolist()] if promise else [len(fresh)])
        seen = obs["obs"][:, 0] + 10 * obs["obs"][:, 1] + obs["goal"] + count
        past = (obs["action"] * obs["action_valid"][..., None]).sum(dim=1)
        known = 0.0 if promise is None else 0.1 * promise[0] * promise[1][..., None]
        return Plan((seen + 0.5 * past)[:, None] + 0.01 * torch.arange(6)[:, None] + noise + known, {"count": count})


class World:
    """Shows the time, and executes what it is told."""

    def __init__(self):
        self.time, self.command = 0, np.full((3, 1), -1.0)

    def see(self, inputs, copies):
        return {"obs": self.time + 0.1 * copies[:, None], "goal": np.full((len(copies), 1), 100.0)}


@trace("control.receding", tolerance=1e-6)
def receding():
    found = {}
    for name, arguments in {
        "at once": {"n_exec": 4},
        "late": {"n_exec": 3, "delay": 2, "promise": True},
        "as late as long": {"n_exec": 1, "delay": 3},
        "all": {},
    }.items():
        policy, world, actions, asked = Sum(), World(), [], []
        controller = RecedingHorizon(policy, seed=5, **arguments)
        controller.reset([1, 2, (3, 4)])
        for world.time in range(11):
            if world.time == 5:
                controller.reset([7], np.array([1]))
                kept = controller.save()
            alive = np.array([True, True, world.time < 8])
            decision = controller.decide(world, alive)
            world.command = decision.action
            actions.append(decision.action[:, 0])
            asked.append(decision.asked)
        window = {} if decision.window is None else decision.window
        controller.restore(kept)
        found |= {
            f"{name}: actions": np.array(actions),
            f"{name}: asked": np.array(asked),
            f"{name}: calls": policy.asked,
            f"{name}: chunk": decision.chunk[..., 0],
            f"{name}: restored": controller.decide(world, alive).action,
            f"{name}: columns": list(controller.columns.values()),
            **{f"{name}: window {key}": array for key, array in window.items()},
        }
    return found
