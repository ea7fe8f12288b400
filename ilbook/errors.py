"""Errors that a reader can act on: one sentence with what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import SequenceMatcher

MOST_LISTED = 12  # a longer list of valid names hides the sentence that carries it


class UserError(Exception):
    """The input was wrong, not the program. The command line prints the sentence and exits with status 2."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """The error for a name that does not exist: says the nearest valid one, and what else there is.

    Returned, not raised, so that the caller's `raise` shows where things went wrong.
    """
    names = list(valid)
    if not names:
        return UserError(f"unknown {kind} {name!r}; there is no {kind} to choose from")
    wanted = str(name).lower()
    nearest = max(names, key=lambda candidate: SequenceMatcher(None, wanted, candidate.lower()).ratio())
    listed = ", ".join(names[:MOST_LISTED])
    if len(names) > MOST_LISTED:
        listed += f" and {len(names) - MOST_LISTED} more"
    return UserError(f"unknown {kind} {name!r}; nearest valid name: {nearest!r} (valid: {listed})")
