"""Where things lie: the repository's root, files that are written whole or not at all, the ffmpeg program."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ilbook.errors import UserError


class NoEncoder(UserError):
    """Films cannot be written or read on this machine."""


def root() -> Path:
    """The repository: `$ILBOOK_ROOT`, else the nearest folder above here, or above the package, with notebooks."""
    given = os.environ.get("ILBOOK_ROOT")
    here = Path.cwd()
    for folder in [Path(given).resolve()] if given else [here, *here.parents, *Path(__file__).resolve().parents]:
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    if given:
        raise UserError(f"ILBOOK_ROOT={given} holds no notebooks/ and pyproject.toml; point it at the repository")
    what = "the folder with notebooks/ and pyproject.toml"
    raise UserError(f"no repository found above {here}; change into {what}, or set ILBOOK_ROOT to it")


def build(top: Path | None = None) -> Path:
    """Where everything is put that is made: `$ILBOOK_BUILD`, else build/ in the repository, which may be read-only."""
    return (top or root()) / (os.environ.get("ILBOOK_BUILD") or "build")


def make_folder(path: Path) -> Path:
    """The folder at `path` for what is made, there or made now; UserError if nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(path, os.W_OK) else "you may not write there"
    except OSError as error:
        why = error.strerror
    if why:
        raise UserError(f"cannot use the folder {path}: {why}; set ILBOOK_BUILD to a folder of your own, or correct it")
    return path


def write_file(path: Path, content: str | bytes) -> None:
    """Write all of `content` or nothing: to a temporary name beside `path`, then renamed over it."""
    payload = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(payload)
        temporary.replace(path)
    except OSError as error:
        advice = "free some space or make the folder writable, then run again"
        raise UserError(f"cannot write {path}: {error.strerror or error}; {advice}") from error
    finally:
        with suppress(OSError):  # where nothing may be written, nothing may be removed: the first error counts
            temporary.unlink()


def ffmpeg() -> str:
    """Path of the ffmpeg program that imageio-ffmpeg carries, for films on pages and pictures of demonstrations."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise NoEncoder(f"no ffmpeg was found; `ilbook doctor` tells more ({error})") from error
