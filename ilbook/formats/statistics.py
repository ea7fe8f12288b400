"""Statistics of a feature in one pass: extremes, mean, spread, and quantiles from an evenly thinned sample."""

from __future__ import annotations

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MOST_KEPT = 16_384  # rows for the quantiles; their 1 % quantile then has a standard error of 0.0008
LEAST_KEPT, KEPT_BYTES = 64, 2**22  # wide arrays keep fewer rows


class Statistics:
    """Collects values (n, ...) and says what LeRobot's stats.json wants; arrays of one number a step count as (1,)."""

    def __init__(self):
        self._count, self._seen, self._stride, self._kept = 0, 0, 1, 0
        self._sample: np.ndarray | None = None

    def add(self, values: np.ndarray) -> None:
        values = values.reshape(len(values), -1) if values.ndim == 1 else values
        exact = values.astype(np.float64)
        count, mean = len(exact), exact.mean(axis=0)
        squares = ((exact - mean) ** 2).sum(axis=0)
        low, high = exact.min(axis=0), exact.max(axis=0)
        if self._count == 0:
            self._mean, self._squares, self._low, self._high = mean, squares, low, high
        else:  # merge two sets of moments (Chan et al. 1983)
            total, apart = self._count + count, mean - self._mean
            self._squares = self._squares + squares + apart**2 * (self._count * count / total)
            self._mean = self._mean + apart * (count / total)
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._count += count
        self._keep(values)

    def _keep(self, values: np.ndarray) -> None:
        """Every `stride`-th row goes to the sample; when that is full, every second one leaves it."""
        rows = values.reshape(len(values), -1)
        if self._sample is None:
            most = max(LEAST_KEPT, min(MOST_KEPT, KEPT_BYTES // max(rows[:1].nbytes, 1))) // 2 * 2
            self._sample = np.empty((most, rows.shape[1]), rows.dtype)
        rows = rows[-self._seen % self._stride :: self._stride]
        self._seen += len(values)
        while len(rows):
            part = rows[: len(self._sample) - self._kept]
            self._sample[self._kept : self._kept + len(part)] = part
            self._kept, rows = self._kept + len(part), rows[len(part) :]
            if self._kept == len(self._sample):
                half = self._sample[::2].copy()
                # The rows to come are already one stride apart; the sample has an even length, so that they go on.
                self._sample[: len(half)], self._kept = half, len(half)
                self._stride, rows = self._stride * 2, rows[::2]

    def result(self) -> dict[str, list]:
        """As LeRobot writes it: lists of the feature's shape."""
        sample, wanted = self._sample[: self._kept], list(QUANTILES.values())
        quantiles = np.stack([np.quantile(column.astype(np.float64), wanted) for column in sample.T], axis=-1)
        quantiles = quantiles.reshape(len(wanted), *self._mean.shape)
        found = {
            "min": self._low,
            "max": self._high,
            "mean": self._mean,
            "std": np.sqrt(self._squares / self._count),
            "count": np.array([self._count]),
            **dict(zip(QUANTILES, quantiles, strict=True)),
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
        mean = share @ levels
        found = {
            "min": np.array([levels[np.flatnonzero(row)[0]] for row in share]),
            "max": np.array([levels[np.flatnonzero(row)[-1]] for row in share]),
            "mean": mean,
            "std": np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1)),
        }
        reached = np.cumsum(share, axis=1)
        for name, quantile in QUANTILES.items():
            found[name] = np.array([levels[min(np.searchsorted(row, quantile), 255)] for row in reached])
        shaped = {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()}
        return {**shaped, "count": [self._count]}
