"""Demonstrations: `load("pusht")` gives the shipped ones as `Episodes`, ready for learning."""

import importlib

from ilbook.data.episodes import Episodes
from ilbook.data.windows import Windows

__all__ = ["Episodes", "Windows", "load"]


def __getattr__(name: str):
    # Only when it is asked for: a policy that needs windows must not drag file readers and the simulator in.
    if name == "load":
        return importlib.import_module("ilbook.data.manifest").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
