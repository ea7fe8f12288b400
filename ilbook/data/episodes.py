"""`Episodes`: demonstrations as flat arrays with the ends of the episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ilbook.errors import UserError, unknown


@dataclass(frozen=True)
class Episodes:
    """All steps of all episodes, one after the other: arrays (T, ...) of equal length and `episode_ends` (E,).

    Episode e covers the steps from `episode_ends[e - 1]` (0 for the first) up to `episode_ends[e]`, excluded.
    """

    arrays: dict[str, np.ndarray]
    episode_ends: np.ndarray
    meta: dict = field(default_factory=dict)  # where the data come from

    @classmethod
    def joined(cls, parts: Sequence[dict[str, np.ndarray]], meta: dict) -> Episodes:
        """Episodes that are given each by its arrays."""
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return cls(arrays, np.cumsum([len(part["action"]) for part in parts]), meta)

    def __post_init__(self):
        ends = self.episode_ends
        if ends.ndim != 1 or len(ends) == 0 or not np.issubdtype(ends.dtype, np.integer):
            raise UserError(f"episode_ends must be a list of whole numbers, not {ends.dtype} of shape {ends.shape}")
        starts = np.concatenate([[0], ends[:-1]])
        if (bad := np.flatnonzero(ends <= starts)).size:
            where = f"episode_ends[{bad[0]}] is {ends[bad[0]]}, not after {starts[bad[0]]}"
            raise UserError(f"{where}: the ends must grow and no episode be empty")
        if "action" not in self.arrays:
            raise UserError(f"episodes need an array 'action'; there are {', '.join(sorted(self.arrays)) or 'none'}")
        for name, array in self.arrays.items():
            steps = len(array) if array.ndim else "no"
            if steps != ends[-1]:
                raise UserError(f"array '{name}' has {steps} steps, but the last episode ends at {ends[-1]}")
            # The extremes tell, and take no memory, which the array may exceed.
            if array.dtype.kind == "f" and array.size and not np.isfinite([array.min(), array.max()]).all():
                at = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
                raise UserError(f"array '{name}' holds {array[at]} at index {at}; demonstrations must be finite")

    def __len__(self) -> int:
        return len(self.episode_ends)

    @property
    def n_steps(self) -> int:
        return int(self.episode_ends[-1])

    @property
    def starts(self) -> np.ndarray:
        """First step of each episode (E,)."""
        return np.concatenate([[0], self.episode_ends[:-1]])

    @property
    def lengths(self) -> np.ndarray:
        return self.episode_ends - self.starts

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise unknown("array", name, self.arrays)
        return self.arrays[name]

    def episode(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of one episode (views)."""
        start, end = self.starts[index], self.episode_ends[index]
        return {name: array[start:end] for name, array in self.arrays.items()}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (self.episode(i) for i in range(len(self)))

    def select(self, indices) -> Episodes:
        """A copy with only these episodes, in this order."""
        parts = [self.episode(i) for i in indices]
        if not parts:
            raise UserError("select got no episodes; name at least one")
        return Episodes.joined(parts, self.meta)

    def with_array(self, name: str, array: np.ndarray) -> Episodes:
        """The same episodes with one array added or replaced."""
        return Episodes({**self.arrays, name: array}, self.episode_ends, self.meta)
