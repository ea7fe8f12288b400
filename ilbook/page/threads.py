"""How many threads torch gets: as many as other programs leave cores."""

from __future__ import annotations

import os
import time

import psutil

AGAIN = 1.0  # s between two looks at the machine; shorter ones tell little


class Threads:
    """Sets torch's threads to the cores that are free, at most `most`, each time that `look` finds them changed.

    A thread that waits for one without a core spins. A training step of page 01 takes 3 ms with two threads on two
    cores; beside one busy process 15 with two and 5 with one. No number depends on it: a test compares the bits.
    """

    def __init__(self, most: int):
        self.most, self._then = most, self.times()

    def look(self) -> None:
        """Look again, if the last time was a second ago; a training calls it a hundred times."""
        if self.most == 1 or time.monotonic() - self._then[0] < AGAIN:
            return
        import torch

        before, self._then = self._then, self.times()
        free = (os.cpu_count() or 1) - self.taken(before, self._then)
        torch.set_num_threads(min(self.most, max(1, round(free))))

    @staticmethod
    def taken(before: tuple[float, float, float], now: tuple[float, float, float]) -> float:
        """Cores that other programs had between two `times`."""
        elapsed, busy, own = (late - early for late, early in zip(now, before, strict=True))
        return max(busy - own, 0.0) / elapsed

    @staticmethod
    def times() -> tuple[float, float, float]:
        """Seconds: now, of all cores at work since the machine started, of this process."""
        cores, own = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = cores.user + cores.system + getattr(cores, "nice", 0.0)
        return time.monotonic(), busy, own.user + own.system
