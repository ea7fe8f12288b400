"""A workbook on imitation learning for robots: the parts that more than one notebook needs."""

import os

__version__ = "0.1.0"

# Threads of torch that have nothing to do go on spinning for milliseconds, on cores that the physics then lacks: a
# batched rollout on two cores took a third longer. This is long enough for the gaps within a pass through a network.
# It has to stand before torch is imported, which the runner, whose notebooks inherit it, makes sure of.
if "OMP_WAIT_POLICY" not in os.environ:  # whoever chose a policy meant it
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if "MUJOCO_GL" in os.environ:  # with a value that does not suit this machine, `import mujoco` would fail
    import ilbook.draw  # noqa: F401
