"""Statistics of a feature in one pass: extremes, mean, spread, and quantiles from an evenly thinned sample."""

from __future__ import annotations

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MOST_KEPT = 16_384  # rows for the quantiles; their 1 % quantile then has a standard error of 0.0008
LEAST_KEPT, KEPT_BYTES = 64, 2**21  # wide arrays keep fewer rows


class Statistics:
    """Collects values (n, ...) and says what LeRobot's stats.json wants; arrays of one number a step count as (1,)."""

    def __init__(self):
        self._count, self._stride = 0, 1

    def add(self, values: np.ndarray) -> None:
        values = values.reshape(len(values), -1) if values.ndim == 1 else values
        if self._count == 0:
            self._origin = values[0].astype(np.float64)  # what is summed stays small, so that squares lose no digits
            self._sum = self._squares = np.zeros(values.shape[1:])
            self._low, self._high, self._sample = values[0], values[0], values[:0]
        away = values - self._origin
        self._sum, self._squares = self._sum + away.sum(axis=0), self._squares + (away**2).sum(axis=0)
        self._low, self._high = np.minimum(self._low, values.min(axis=0)), np.maximum(self._high, values.max(axis=0))
        # Every `stride`-th row is kept; when there are too many, every second one of them.
        self._sample = np.concatenate([self._sample, values[-self._count % self._stride :: self._stride]])
        self._count += len(values)
        most = max(LEAST_KEPT, min(MOST_KEPT, KEPT_BYTES // max(values[:1].nbytes, 1)))
        while len(self._sample) > most:
            self._sample, self._stride = self._sample[::2].copy(), self._stride * 2

    def result(self) -> dict[str, list]:
        """As LeRobot writes it: lists of the feature's shape."""
        mean = self._sum / self._count
        sample = self._sample.astype(np.float64)
        found = {
            "min": self._low.astype(np.float64),
            "max": self._high.astype(np.float64),
            "mean": self._origin + mean,
            "std": np.sqrt(np.maximum(self._squares / self._count - mean**2, 0)),
            "count": np.array([self._count]),
            **dict(zip(QUANTILES, np.quantile(sample, list(QUANTILES.values()), axis=0), strict=True)),
        }
        return {name: value.tolist() for name, value in found.items()}


class PictureStatistics:
    """The same for pictures (n, H, W, 3) uint8, exactly, from the histogram of each channel; values in 0..1."""

    def __init__(self):
        self._count, self._histogram = 0, np.zeros((3, 256), np.int64)

    def add(self, values: np.ndarray) -> None:
        self._count += len(values)
        for channel in range(3):
            self._histogram[channel] += np.bincount(values[..., channel].ravel(), minlength=256)

    def result(self) -> dict[str, list]:
        levels, share = np.arange(256) / 255.0, self._histogram / self._histogram.sum(axis=1, keepdims=True)
        mean, reached = share @ levels, np.cumsum(share, axis=1)
        at_least = {"min": 1e-12, **QUANTILES, "max": 1 - 1e-12}  # the level up to which so many pixels are
        found = {name: levels[(reached < part).sum(axis=1)] for name, part in at_least.items()}
        found |= {"mean": mean, "std": np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))}
        return {**{name: value.reshape(3, 1, 1).tolist() for name, value in found.items()}, "count": [self._count]}
