"""How much longer work takes beside programs that keep cores busy.

The test trains page 01's network for some seconds; `python tests/bench/test_busy.py` runs the whole page in the lecture
profile three times (alone, beside one and beside two busy processes) and compares with the bars of 1.8 and 3.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from ilbook import data
from ilbook.data.windows import Windows
from ilbook.learning.fit import Training, fit
from ilbook.page.threads import Threads
from ilbook.policies.bc import MLPPolicy

pytestmark = pytest.mark.bench

BUSY = "while True: pass"


@contextmanager
def beside(n: int):
    """`n` processes that keep a core busy each."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def train(steps: int) -> float:
    """Seconds of a training of page 01's network, as the store of trainings runs it."""
    policy = MLPPolicy(18, 2, Windows(horizon=4), width=320, depth=3, relative_to=(0, 1))
    cores, began = Threads(os.cpu_count()), time.perf_counter()
    settings = Training(steps=steps, batch=256, learning_rate=3e-3)
    for _ in fit(policy, data.load("pusht"), settings, progress=lambda step, loss: cores.look()):
        pass
    return time.perf_counter() - began


@pytest.mark.skipif(os.cpu_count() < 2, reason="one core has no threads to give away")
def test_a_training_beside_others_takes_the_cores_that_are_left():
    train(200)  # what is done once
    alone = train(1500)
    for n, most in ((1, 2.5), (2, 5.0)):  # with two spinning threads it would be 5 and more than 15 times
        with beside(n):
            took = train(1500)
        print(f"alone {alone:.1f} s, beside {n} busy processes {took:.1f} s: {took / alone:.2f} times")
        assert took < most * alone


def main() -> None:
    run = ["ilbook", "run", "01_first_policy", "--profile", "lecture", "--fresh"]
    seconds = {}
    for n in (0, 1, 2):
        with beside(n):
            began = time.perf_counter()
            subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
            seconds[n] = time.perf_counter() - began
        ratio = seconds[n] / seconds[0]
        print(f"beside {n} busy processes: {seconds[n]:.0f} s, {ratio:.2f} times (bar {(1, 1.8, 3)[n]})", flush=True)


if __name__ == "__main__":
    main()
