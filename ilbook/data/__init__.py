"""Demonstrations: `load("pusht")` gives the shipped ones as `Episodes`, ready for learning."""

from ilbook.data.episodes import Episodes, Windows
from ilbook.data.manifest import load

__all__ = ["Episodes", "Windows", "load"]
