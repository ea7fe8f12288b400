"""Where a conversion writes: to a temporary name beside the target, which takes the target's place once complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ilbook.errors import UserError


@contextmanager
def fresh(target: Path, force: bool, source: Path, is_data: Callable[[Path], bool]) -> Iterator[Path]:
    """A free path beside `target` to write to; it becomes `target` if the block ends well and vanishes if not.

    UserError if the target exists and `force` is off, or if it is, holds or lies in the source. With `force` only
    what `is_data` accepts is replaced: a mistyped target must not cost somebody a folder.
    """
    here, there = target.resolve(), source.resolve()
    if not target.name or here.parent == here:
        raise UserError(f"{target} cannot be a target; name a new file or folder")
    if here == there or there in here.parents or here in there.parents:
        raise UserError(f"{target} is the source {source}, or one lies inside the other; choose another target")
    if replaces := os.path.lexists(target):
        if not force:
            raise UserError(f"{target} exists already; choose another target or replace it with --force")
        if not is_data(target) and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} is not a data set, so --force does not replace it; choose another target")
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        remove(temporary)
        yield temporary
        if replaces:  # it steps aside first and is deleted last, so that one of the two is always complete
            target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            if replaces:
                old.rename(target)
            raise
        remove(old)
    except OSError as error:
        reason = str(error.strerror or error).partition("\n")[0]
        if str(error.filename or "").startswith(str(source)):
            raise UserError(f"cannot read {error.filename}: {reason}; make it readable") from error
        remedy = "free some space or make the folder writable, then run again"
        raise UserError(f"cannot write {target}: {reason}; {remedy}") from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
