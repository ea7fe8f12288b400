"""Pictures as mp4 (h264) and back, through the ffmpeg program that imageio-ffmpeg carries, frame by frame."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ilbook import paths
from ilbook.errors import UserError

QUALITY = 18  # constant rate factor; below about 18 nobody sees a difference
KEY_FRAMES = 2  # every second frame stands alone, so that a single frame is found quickly (LeRobot's own choice)


class Writer:
    """Encodes frames (n, H, W, 3) uint8, H and W even; `close` must be called."""

    def __init__(
        self, path: Path, height: int, width: int, fps: int, quality: int = QUALITY, key_frames: int = KEY_FRAMES
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._errors = path, tempfile.TemporaryFile()  # noqa: SIM115
        command = [
            paths.ffmpeg(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", str(fps), "-i", "-", "-c:v", "libx264", "-preset", "fast", "-crf", str(quality),
            "-g", str(key_frames), "-bf", "0", "-pix_fmt", "yuv420p", "-r", str(fps), str(path),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors)

    def add(self, frames: np.ndarray) -> None:
        try:
            for frame in frames:
                self._process.stdin.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError:
            self.close()

    def size(self) -> int:
        """Bytes written so far; the encoder makes the file with a delay."""
        return self.path.stat().st_size if self.path.exists() else 0

    def close(self) -> None:
        """Finish the file; UserError if the encoder failed."""
        if self._process.poll() is None or not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        failed = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        if failed:
            raise UserError(f"{self.path.name}: the video encoder failed ({said[-1] if said else failed})")

    def stop(self) -> None:
        """Give up, without an error."""
        self._process.kill()
        self._process.wait()


class Reader:
    """Decodes one file from its beginning; `take` gives frames in order."""

    def __init__(self, path: Path, where: str, shape: tuple[int, int, int], fps: float):
        self._where, self._shape, self._process = where, shape, None
        said = _look(path)
        if said is None:
            raise UserError(f"{where}: not a readable video; it may be cut short")
        width, height, found = said
        if (height, width) != shape[:2]:
            raise UserError(f"{where}: has {height} x {width} pixels, but the feature says {shape[0]} x {shape[1]}")
        if abs(found - fps) > 0.01 * fps:
            raise UserError(f"{where}: has {found:g} frames a second, but the data set says {fps:g}")
        command = [
            paths.ffmpeg(), "-v", "error", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.position = 0

    def take(self, n: int, what: str) -> np.ndarray:
        """The next frames (n, H, W, 3); UserError if there are fewer, saying `what` needs them."""
        size = int(np.prod(self._shape))
        raw = self._process.stdout.read(n * size)
        if len(raw) < n * size:
            there = self.position + len(raw) // size
            raise UserError(f"{self._where}: has only {there} frames; {what} needs frame {there}")
        self.position += n
        return np.frombuffer(raw, np.uint8).reshape(n, *self._shape)

    def skip(self, n: int, what: str) -> None:
        for _ in range(n):
            self.take(1, what)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.stdout.close()
            self._process.wait()


def _look(path: Path) -> tuple[int, int, float] | None:
    """Width, height and frames per second of a video; None if it is none."""
    command = [paths.ffmpeg(), "-hide_banner", "-i", str(path)]
    said = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    text = said.stderr.decode(errors="replace")
    found = re.search(r"Video: .*?[ ,](\d+)x(\d+)[ ,].*?([\d.]+) fps", text)
    return (int(found[1]), int(found[2]), float(found[3])) if found else None
