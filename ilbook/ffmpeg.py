"""The ffmpeg program that imageio-ffmpeg carries, for films on pages and for the pictures of demonstrations."""

from __future__ import annotations

from ilbook.errors import UserError


class NoEncoder(UserError):
    """Films cannot be written or read on this machine."""


def program() -> str:
    """Path of the program."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise NoEncoder(f"no ffmpeg was found; `ilbook doctor` tells more ({error})") from error
