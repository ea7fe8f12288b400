"""Pictures as mp4 (h264) and back, through the ffmpeg program that imageio-ffmpeg carries, frame by frame."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np

from ilbook import paths
from ilbook.data.files import readable
from ilbook.errors import UserError

QUALITY = 18  # constant rate factor; below about 18 nobody sees a difference
KEY_FRAMES = 2  # every second frame stands alone, so that a single frame is found quickly (LeRobot's own choice)


def is_depth(pixels: str, channels: int = 3) -> bool:
    """Whether a film of this ffmpeg pixel format measures one value, in more than 8 bits; colours can lose some."""
    return bool(re.search(r"\d(le|be)\b", pixels)) and (channels == 1 or pixels.startswith("gray"))


class Writer:
    """Encodes frames (n, H, W, 3) uint8, H and W even; `close` must be called, or `stop` to give up."""

    # Not imageio-ffmpeg's own writer, which does not tell whether the encoder failed, as it does on a full disk.
    def __init__(self, path: Path, height: int, width: int, fps: int, quality=QUALITY, key_frames=KEY_FRAMES):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        command = [
            paths.ffmpeg(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", str(fps), "-i", "-", "-c:v", "libx264", "-preset", "fast", "-crf", str(quality),
            "-g", str(key_frames), "-bf", "0", "-pix_fmt", "yuv420p", "-r", str(fps), str(path),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def add(self, frames: np.ndarray) -> None:
        try:
            self._process.stdin.write(np.ascontiguousarray(frames).data)
        except BrokenPipeError:
            self.close()

    def close(self) -> None:
        """Finish the file; UserError if the encoder failed."""
        said = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
        if failed := self._process.returncode:
            raise UserError(f"{self.path.name}: the video encoder failed ({said[-1] if said else failed})")

    def stop(self) -> None:
        """Give up, without an error."""
        self._process.kill()
        self._process.communicate()


class Reader:
    """Decodes one file from its beginning, `shape` (H, W, 1 or 3); frames can be taken in order only."""

    def __init__(self, path: Path, where: str, shape: tuple[int, int, int], fps: float):
        paths.ffmpeg()  # the error where there is none
        import imageio_ffmpeg

        self.where, self._shape, self.position = where, shape, 0
        # The decoder converts to as many channels as are cut from its bytes.
        pixels = {"pix_fmt": "gray" if shape[2] == 1 else "rgb24", "bits_per_pixel": 8 * shape[2]}
        self._frames = imageio_ffmpeg.read_frames(path, **pixels, output_params=["-fps_mode", "passthrough"])
        with readable(where, "video", OSError, RuntimeError):
            said = next(self._frames)
        (width, height), found = said["size"], said["fps"]
        if (height, width) != shape[:2]:
            raise UserError(f"{where}: has {height} x {width} pixels, but the feature says {shape[0]} x {shape[1]}")
        if is_depth(said["pix_fmt"], shape[2]):
            lossy = f"has pixels {said['pix_fmt']}, of which 8 bits would lose much"
            raise UserError(f"{where}: {lossy}; take the others with --arrays")
        if abs(found - fps) > 0.01 * fps:
            raise UserError(f"{where}: has {found:g} frames a second, but the data set says {fps:g}")

    def take(self, first: int, n: int, what: str) -> np.ndarray:
        """Frames first..first + n as (n, H, W, C); UserError if the file has fewer, saying that `what` needs them."""
        if first < self.position:
            raise UserError(f"{self.where}: {what} needs frame {first}, but those before {self.position} are read")
        frames = np.empty((n, *self._shape), np.uint8)
        with readable(self.where, "video", RuntimeError):
            for at in range(self.position, first + n):
                if (raw := next(self._frames, None)) is None:
                    raise UserError(f"{self.where}: has only {at} frames; {what} needs frame {at}")
                if at >= first:
                    frames[at - first] = np.frombuffer(raw, np.uint8).reshape(self._shape)
        self.position = first + n
        return frames

    def close(self) -> None:
        self._frames.close()
