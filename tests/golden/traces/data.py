"""What the parts of the data room do that change numbers: windows and scaling."""

import numpy as np
import torch

from ilbook.data.episodes import Episodes
from ilbook.data.normalise import Normaliser
from ilbook.data.windows import Windows
from tests.golden.registry import trace


@trace("data.windows")
def windows():
    episodes = Episodes({"action": np.zeros((7, 1))}, np.array([4, 5, 7]))
    return Windows(n_obs=2, horizon=3, n_past=2).indices(episodes)._asdict()


@trace("data.normalise", tolerance=1e-6)
def normalise():
    values = np.array([[0.0, -3.0, 0.7], [4.0, 1.0, 0.7], [1.0, 0.0, 0.70001]])
    fresh, fitted = Normaliser(3), Normaliser(3).fit(values)
    scaled = fitted(torch.tensor(values, dtype=torch.float32))
    return {
        "scaled": scaled,
        "inverse": fitted.inverse(scaled + 0.5),
        "untouched": fresh(torch.ones(3)),
        "fitted": [bool(fresh.fitted), bool(fitted.fitted)],
    }
