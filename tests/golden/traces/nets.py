"""What the networks do."""

import torch

from ilbook.nets.mlp import MLP
from tests.golden.registry import trace


@trace("nets.mlp", tolerance=1e-6)
def mlp():
    torch.manual_seed(1)
    net = MLP(3, 2, width=8, depth=2)
    x = torch.linspace(-2, 2, 12).reshape(4, 3)
    out = net(x)
    out.square().sum().backward()
    return {
        "out": out,  # (4, 2)
        "gradients": [float(p.grad.square().sum()) for p in net.parameters()],
        "sizes": [p.numel() for p in MLP(3, 2).parameters()],  # of the default width and depth
    }
