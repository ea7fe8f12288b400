"""Multilayer perceptrons."""

from __future__ import annotations

import torch
from torch import nn

from ilbook import used


class MLP(nn.Module):
    """`depth` hidden layers of `width` units: (B, n_in) -> (B, n_out)."""

    def __init__(self, n_in: int, n_out: int, width: int = 256, depth: int = 3):
        super().__init__()
        used.note("nets.mlp")
        layers = []
        for size in [n_in] + [width] * (depth - 1):
            layers += [nn.Linear(size, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
