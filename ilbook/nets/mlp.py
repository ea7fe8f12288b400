"""Multilayer perceptrons."""

from __future__ import annotations

import torch
from torch import nn


class MLP(nn.Module):
    """`depth` hidden layers of `width` units: (B, n_in) -> (B, n_out)."""

    def __init__(self, n_in: int, n_out: int, width: int = 256, depth: int = 3, dropout: float = 0.0):
        super().__init__()
        sizes = [n_in] + [width] * depth
        layers = []
        for a, b in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
