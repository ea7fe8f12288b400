"""Statistics of a feature in one pass, as LeRobot's stats.json wants them: extremes, mean, spread."""

from __future__ import annotations

import numpy as np

from ilbook.formats.stream import Column


class Statistics:
    """Collects values (n, *shape); of pictures for each channel, in 0..1. Merging: Chan, Golub and LeVeque (1983)."""

    def __init__(self, column: Column):
        self._picture = column.is_picture
        self._n_steps, self._n, self._mean, self._squares = 0, 0, 0.0, 0.0
        self._low, self._high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        self._n_steps += len(values)
        for part in values if self._picture else [values]:  # one at a time: as floats they are eight times as large
            self._merge(part.reshape(-1, 3) / 255 if self._picture else part.astype(np.float64))

    def _merge(self, part: np.ndarray) -> None:
        mean, n = part.mean(axis=0), self._n + len(part)
        away = mean - self._mean
        self._squares = self._squares + ((part - mean) ** 2).sum(axis=0) + away**2 * (self._n * len(part) / n)
        self._mean, self._n = self._mean + away * (len(part) / n), n
        self._low, self._high = np.minimum(self._low, part.min(axis=0)), np.maximum(self._high, part.max(axis=0))

    def result(self) -> dict[str, list]:
        """Lists of the feature's shape, (1,) for one number a step and (3, 1, 1) for pictures."""
        found = {"min": self._low, "max": self._high, "mean": self._mean, "std": np.sqrt(self._squares / self._n)}
        listed = {
            name: (value.reshape(3, 1, 1) if self._picture else np.atleast_1d(value)).tolist()
            for name, value in found.items()
        }
        return {**listed, "count": [self._n_steps]}
