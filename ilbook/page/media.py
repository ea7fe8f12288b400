"""Films and pictures for the page: embedded in it, small, with a description for those who cannot see them."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import mediapy
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ilbook import paths
from ilbook.errors import UserError

LARGEST = 400_000  # bytes of an embedded film; base64 adds a third, and a page holds several
QUALITIES = (20, 26, 32, 38, 44)  # x264's constant rate factors, tried until the film is small enough
# One thread: the same bytes on every machine. The index goes first, so that a page can start at once.
X264 = ("-preset", "veryfast", "-tune", "animation", "-threads", "1", "-movflags", "+faststart")
STILL = 192  # pixels of a still, upright: twice as fine as on the page, for dense screens
BORDER = 4  # pixels around each film of a grid
INK = (51, 51, 51)
RUNNING = (255, 255, 255)
SUCCESS = (0, 158, 115)  # the same green and vermilion as in `ilbook.page.viz.COLOURS`
FAILURE = (213, 94, 0)


@dataclass(frozen=True)
class Shown:
    """What a notebook and its page show without a network, with its description (`alt`)."""

    data: bytes = field(repr=False)
    alt: str
    title: str = ""
    width: int | None = None  # on the page, CSS pixels; None: as wide as it is
    suffix: ClassVar[str]
    tag: ClassVar[str]  # HTML, because it is the one form in which both nbconvert and MyST-NB keep the description

    def _repr_html_(self) -> str:
        size = f"width:{self.width}px;max-width:100%" if self.width else "max-width:100%"
        alt = html.escape(" ".join(self.alt.split()))
        content = self.tag.format(alt=alt, size=size, data=base64.b64encode(self.data).decode())
        caption = f"<figcaption>{html.escape(self.title)}</figcaption>" if self.title else ""
        return f'<figure style="margin:0.5em 0">{content}{caption}</figure>'

    def save(self, path: str | Path) -> Path:
        """Write it, all or nothing; returns where it lies: stills that stand for a film end in .png."""
        path = Path(path).with_suffix(self.suffix)
        paths.write_file(path, self.data)
        return path


class Picture(Shown):
    """A PNG."""

    suffix = ".png"
    tag = '<img alt="{alt}" style="{size}" src="data:image/png;base64,{data}">'


class Film(Shown):
    """An MP4."""

    suffix = ".mp4"
    tag = (
        '<video controls loop muted playsinline preload="auto" aria-label="{alt}" style="{size}" '
        'src="data:video/mp4;base64,{data}">{alt}</video>'
    )


def show(frames: np.ndarray, fps: float, title: str, alt: str, width: int | None = None) -> Film | Picture:
    """A film of frames (T, H, W, 3) uint8, `width` pixels wide, in words in `alt`; a strip of stills without ffmpeg."""
    if not alt.strip():
        raise UserError("a film needs a description; say in `alt` what happens in it")
    try:
        return Film(encode(frames, fps), alt, title, width)
    except paths.NoEncoder as error:
        return strip(frames, fps=fps, alt=alt, title=f"{title} (stills only: {error})")


def encode(frames: np.ndarray, fps: float, largest: int = LARGEST) -> bytes:
    """H.264 in MP4, as good as fits in `largest` bytes. Raises NoEncoder when there is no working ffmpeg."""
    frames = _checked(frames)
    if not fps > 0:
        raise UserError(f"a film of {fps} frames a second does not run; give a number above 0")
    # Half the colour samples in each direction need even sides.
    frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
    mediapy.set_ffmpeg(paths.ffmpeg())
    try:
        for quality in QUALITIES:
            film = mediapy.compress_video(frames, fps=fps, crf=quality, ffmpeg_args=X264)
            if len(film) <= largest:
                break
    except (OSError, RuntimeError) as error:  # its message names a temporary file, which no page should show
        raise paths.NoEncoder("ffmpeg could not encode a film; `ilbook doctor` tells more") from error
    return film


def strip(frames: np.ndarray, n: int = 8, fps: float = 10.0, title: str = "", alt: str = "") -> Picture:
    """`n` evenly spaced frames of (T, H, W, 3) in a row with their times in seconds."""
    frames = _checked(frames)
    if n < 1:
        raise UserError(f"a strip of {n} frames shows nothing; ask for at least 1")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(n, len(frames))).round().astype(int))
    width = round(frames.shape[2] * STILL / frames.shape[1])
    gap, foot = 8, 48
    sheet = Image.new("RGB", (len(chosen) * (width + gap) - gap, STILL + foot), "white")
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(30)
    for left, index in zip(range(0, sheet.width, width + gap), chosen, strict=True):
        sheet.paste(Image.fromarray(frames[index]).resize((width, STILL), Image.Resampling.LANCZOS), (left, 0))
        brush.text((left + width / 2, STILL + foot / 2), f"{index / fps:.1f} s", INK, font, anchor="mm")
    alt = alt or f"{len(chosen)} frames of a film, from 0 to {(len(frames) - 1) / fps:.1f} s"
    return Picture(mediapy.compress_image(np.asarray(sheet), optimize=True), alt, title, sheet.width // 2)


def grid(films: Sequence[np.ndarray], success: Sequence[bool], columns: int) -> np.ndarray:
    """Films (T_i, H, W, 3) of one size tiled into one (max T, ..., 3), each with a frame around it.

    A film that is over holds its last frame, and the frame around it turns green after success, vermilion without.
    """
    films = [_checked(film) for film in films]
    if not films or len({film.shape[1:] for film in films}) > 1:
        raise UserError(f"a grid needs films of one size, not {sorted({film.shape[1:3] for film in films}) or 'none'}")
    if len(success) != len(films):
        raise UserError(f"a grid got {len(films)} films and {len(success)} successes; give one for each")
    rows, length, (height, width) = -(-len(films) // columns), max(map(len, films)), films[0].shape[1:3]
    tall, wide = height + 2 * BORDER, width + 2 * BORDER
    out = np.full((length, rows, tall, columns, wide, 3), RUNNING, np.uint8)
    for place, (film, won) in enumerate(zip(films, success, strict=True)):
        tile = out[:, place // columns, :, place % columns]
        tile[len(film) - 1 :] = SUCCESS if won else FAILURE
        tile[:, BORDER:-BORDER, BORDER:-BORDER] = film[np.minimum(np.arange(length), len(film) - 1)]
    return out.reshape(length, rows * tall, columns * wide, 3)


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise UserError(f"a film is frames (T, H, W, 3) of uint8, not {frames.dtype} of shape {frames.shape}")
    return frames
