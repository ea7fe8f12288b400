"""Films and pictures for the page: embedded in it, small, with a description for those who cannot see them."""

from __future__ import annotations

import base64
import html
import io
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ilbook import paths
from ilbook.errors import UserError
from ilbook.paths import write_file

if TYPE_CHECKING:
    from ilbook.tasks.base import Task

LARGEST = 400_000  # bytes of an embedded film; base64 adds a third, and a page holds several
QUALITIES = (20, 26, 32, 38, 44)  # x264's constant rate factors, tried until the film is small enough
TIMEOUT_S = 120
INK = (51, 51, 51)
RUNNING = (255, 255, 255)
SUCCESS = (0, 158, 115)  # the same green and vermilion as in `ilbook.page.viz.COLOURS`
FAILURE = (213, 94, 0)


@dataclass(frozen=True)
class Picture:
    """A PNG that a notebook and its page show with its description (`alt`)."""

    png: bytes
    alt: str
    title: str = ""
    width: int | None = None  # on the page, CSS pixels; None: as wide as the picture itself

    def _repr_html_(self) -> str:
        # HTML and not image/png: it is the one form in which both nbconvert and MyST-NB keep the description.
        style = f"width:{self.width}px;max-width:100%" if self.width else "max-width:100%"
        source = base64.b64encode(self.png).decode()
        image = f'<img alt="{_quoted(self.alt)}" style="{style}" src="data:image/png;base64,{source}">'
        return _figure(image, self.title)

    def __repr__(self) -> str:
        return f"[picture: {self.alt}]"

    def save(self, path: str | Path) -> Path:
        """Write the PNG, all or nothing."""
        write_file(Path(path), self.png)
        return Path(path)


@dataclass(frozen=True)
class Film:
    """An MP4 that a notebook and its page play without a network."""

    mp4: bytes
    alt: str
    title: str = ""
    width: int | None = None

    def _repr_html_(self) -> str:
        size = f"width:{self.width}px;max-width:100%" if self.width else "max-width:100%"
        source = base64.b64encode(self.mp4).decode()
        video = (
            f'<video controls loop muted playsinline preload="auto" aria-label="{_quoted(self.alt)}" style="{size}" '
            f'src="data:video/mp4;base64,{source}">{html.escape(self.alt)}</video>'
        )
        return _figure(video, self.title)

    def __repr__(self) -> str:
        return f"[film: {self.alt}]"


def show(frames: np.ndarray, fps: float, title: str, alt: str, width: int | None = None) -> Film | Picture:
    """A film of frames (T, H, W, 3) uint8 to stand as the last line of a cell; a strip of stills without an encoder.

    `alt` says what happens in the film, for readers who cannot see it. `width` is the width on the page in pixels.
    """
    if not alt.strip():
        raise UserError("a film needs a description; say in `alt` what happens in it")
    try:
        return Film(encode(frames, fps), alt, title, width)
    except paths.NoEncoder as error:
        return strip(frames, fps=fps, alt=alt, title=f"{title} (stills only: {error})")


def film(
    task_type: type[Task], states: np.ndarray, title: str, alt: str, size: int = 240, nice: bool = False
) -> Film | Picture:
    """A film of a task's states (T, S) at its own speed; see `show`. `nice` adds shadows, at a third of the speed."""
    from ilbook.draw.render import renderer

    drawn = renderer(task_type, size, nice)
    return show(drawn.frames(np.atleast_2d(states)[:, : drawn.model.nq]), task_type.control_hz, title, alt)


def save(path: str | Path, frames: np.ndarray, fps: float) -> Path:
    """Write a film (.mp4), all or nothing; returns where it lies.

    Without an encoder it writes a strip of stills beside it (.png), and says so.
    """
    path = Path(path)
    try:
        write_file(path, encode(frames, fps))
    except paths.NoEncoder as error:
        path = strip(frames, fps=fps, alt="stills of a film").save(path.with_suffix(".png"))
        print(f"stills instead of a film in {path.name}: {error}")
    return path


def encode(frames: np.ndarray, fps: float, largest: int = LARGEST) -> bytes:
    """H.264 in MP4, as good as fits in `largest` bytes. Raises NoEncoder when there is no working ffmpeg."""
    frames = _checked(frames)
    if not fps > 0:
        raise UserError(f"a film of {fps} frames a second does not run; give a number above 0")
    # Half the colour samples in each direction need even sides.
    frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
    for quality in QUALITIES:
        film = _ffmpeg(frames, fps, quality)
        if len(film) <= largest:
            break
    return film


def _ffmpeg(frames: np.ndarray, fps: float, quality: int) -> bytes:
    _, height, width, _ = frames.shape
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "film.mp4")
        command = [paths.ffmpeg(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        command += ["-r", f"{fps:g}", "-i", "-", "-an", "-c:v", "libx264", "-preset", "veryfast", "-tune", "animation"]
        # One thread: the same bytes on every machine. The index goes first, so that a page can start at once.
        command += ["-crf", str(quality), "-threads", "1", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(film)]
        try:
            done = subprocess.run(command, input=frames.tobytes(), capture_output=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise paths.NoEncoder(f"ffmpeg did not run: {error}") from error
        if done.returncode or not film.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise paths.NoEncoder(f"ffmpeg could not encode a film: {said[-1]}")
        return film.read_bytes()


def strip(
    frames: np.ndarray, n: int = 8, fps: float = 10.0, title: str = "", alt: str = "", height: int = 96
) -> Picture:
    """`n` evenly spaced frames of (T, H, W, 3) in a row, `height` pixels high on the page, with times in seconds."""
    frames = _checked(frames)
    if n < 1:
        raise UserError(f"a strip of {n} frames shows nothing; ask for at least 1")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(n, len(frames))).round().astype(int))
    side = 2 * height  # twice as fine as the page, for dense screens
    width = round(frames.shape[2] * side / frames.shape[1])
    gap, foot = 8, 48
    sheet = Image.new("RGB", (len(chosen) * (width + gap) - gap, side + foot), "white")
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(30)
    for place, index in enumerate(chosen):
        left = place * (width + gap)
        sheet.paste(Image.fromarray(frames[index]).resize((width, side), Image.Resampling.LANCZOS), (left, 0))
        brush.text((left + width / 2, side + foot / 2), f"{index / fps:.1f} s", INK, font, anchor="mm")
    alt = alt or f"{len(chosen)} frames of a film, from 0 to {(len(frames) - 1) / fps:.1f} s"
    return Picture(_png(sheet), alt, title, sheet.width // 2)


def grid(
    films: Sequence[np.ndarray], success: Sequence[bool] | None = None, columns: int | None = None, border: int = 4
) -> np.ndarray:
    """Films (T_i, H, W, 3) of one size tiled into one (max T, ..., 3); a film that is over holds its last frame.

    With `success`, the frame around a film turns green when it ends in success and vermilion when it does not.
    """
    films = [_checked(film) for film in films]
    if not films or len({film.shape[1:] for film in films}) > 1:
        raise UserError(f"a grid needs films of one size, not {sorted({film.shape[1:3] for film in films}) or 'none'}")
    if success is not None and len(success) != len(films):
        raise UserError(f"a grid got {len(films)} films and {len(success)} successes; give one for each")
    columns = columns or int(np.ceil(np.sqrt(len(films))))
    rows = -(-len(films) // columns)
    length, (height, width) = max(map(len, films)), films[0].shape[1:3]
    tall, wide = height + 2 * border, width + 2 * border
    out = np.full((length, rows * tall, columns * wide, 3), 255, np.uint8)
    for place, film in enumerate(films):
        top, left = place // columns * tall, place % columns * wide
        tile = out[:, top : top + tall, left : left + wide]
        tile[:] = RUNNING
        if success is not None:
            tile[len(film) - 1 :] = SUCCESS if success[place] else FAILURE
        inside = tile[:, border : border + height, border : border + width]
        inside[: len(film)] = film
        inside[len(film) :] = film[-1]
    return out


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise UserError(f"a film is frames (T, H, W, 3) of uint8, not {frames.dtype} of shape {frames.shape}")
    return frames


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _quoted(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=True)


def _figure(content: str, title: str) -> str:
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    return f'<figure style="margin:0.5em 0">{content}{caption}</figure>'
