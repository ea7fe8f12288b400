"""Where things lie: the repository's root, files that are written whole or not at all, the ffmpeg program."""

from __future__ import annotations

import os
from pathlib import Path

from ilbook.errors import UserError


class NoEncoder(UserError):
    """Films cannot be written or read on this machine."""


def root() -> Path:
    """The repository: `$ILBOOK_ROOT`, else the nearest folder above here, or above the package, with notebooks."""
    given = os.environ.get("ILBOOK_ROOT")
    if given:
        folder = Path(given).resolve()
        if not _is_root(folder):
            raise UserError(f"ILBOOK_ROOT={given} holds no notebooks/ and pyproject.toml; point it at the repository")
        return folder
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if _is_root(folder):
                return folder
    raise UserError(
        f"no repository found above {Path.cwd()}; change into the folder with notebooks/ and pyproject.toml, "
        "or set ILBOOK_ROOT to it"
    )


def _is_root(folder: Path) -> bool:
    return (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file()


def write_file(path: Path, content: str | bytes) -> None:
    """Write all of `content` or nothing: to a temporary name beside `path`, then renamed over it."""
    payload = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(payload)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or make the folder writable, "
            "then run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def ffmpeg() -> str:
    """Path of the ffmpeg program that imageio-ffmpeg carries, for films on pages and pictures of demonstrations."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise NoEncoder(f"no ffmpeg was found; `ilbook doctor` tells more ({error})") from error
