"""Demonstrations: `load("pusht")` gives the shipped ones as `Episodes`, ready for learning."""

from ilbook.data.episodes import Episodes
from ilbook.data.manifest import load
from ilbook.data.windows import Windows

__all__ = ["Episodes", "Windows", "load"]
