"""Which parts of the package were used: each announces itself, so that a result names the versions of what really ran.
A part is a module, named without "ilbook."; a perturbed task announces "tasks.pusht:lag" as well, data "data:pusht".
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

_used: set[str] = set()


def note(*parts: str) -> None:
    """These parts are in use from here on."""
    _used.update(parts)


def note_type(kind: type) -> None:
    """An object of this type is in use: a part for its class and each base of the package that is not abstract."""
    ours = (one for one in kind.__mro__ if one.__module__.startswith("ilbook.") and not inspect.isabstract(one))
    note(*(one.__module__.removeprefix("ilbook.") for one in ours))


@contextmanager
def collected() -> Iterator[set[str]]:
    """The parts that are used inside this block, alone; afterwards they count outside as well."""
    global _used
    before, _used = _used, set()
    try:
        yield _used
    finally:
        _used = before | _used


def parts() -> list[str]:
    """All parts that were used so far."""
    return sorted(_used)
