"""Scaling of observations and actions to [-1, 1], kept inside the policy so that one file restores both."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ilbook import used


class Normaliser(nn.Module):
    """Maps each dimension's range in the data to [-1, 1]; a constant dimension is only centred (Chi et al. 2023)."""

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))  # half the range
        # Whether it knows a range; in the state dict, so that nobody refits what was loaded.
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def fit(self, values: np.ndarray) -> Normaliser:
        """Take the ranges over the first axis of values (T, *shape)."""
        used.note("data.normalise")
        low, high = values.min(axis=0), values.max(axis=0)
        half = (high - low) / 2
        # Dividing by the tiny range of a constant dimension would turn its rounding errors into signals.
        half = np.where(high - low < 1e-4, 1.0, half)
        self.centre.copy_(torch.as_tensor((high + low) / 2, dtype=torch.float32))
        self.scale.copy_(torch.as_tensor(half, dtype=torch.float32))
        self.fitted.fill_(True)
        return self

    def forward(self, values: torch.Tensor) -> torch.Tensor:  # (..., *shape) -> same
        return (values - self.centre) / self.scale

    def inverse(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.scale + self.centre
