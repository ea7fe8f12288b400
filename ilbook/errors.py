"""Errors that a reader can act on: one sentence with what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class UserError(Exception):
    """The input was wrong, not the program. The command line prints the sentence and exits with status 2."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """The error, for the caller to raise, for a name that does not exist: with the nearest and all valid ones."""
    names = list(valid)
    if not names:
        return UserError(f"unknown {kind} {name!r}; there is no {kind} to choose from")
    wanted = str(name).lower()
    nearest = max(names, key=lambda candidate: SequenceMatcher(None, wanted, candidate.lower()).ratio())
    return UserError(f"unknown {kind} {name!r}; nearest valid name: {nearest!r} (valid: {listed(names)})")


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names as words; no more than `most`, because a longer list hides the sentence that carries it."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
