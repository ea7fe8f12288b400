"""Films, strips and grids."""

import base64
import io
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from ilbook import paths
from ilbook.errors import UserError
from ilbook.page import media


def film(length=20, height=96, width=96):
    """A white square that moves to the right over grey."""
    frames = np.full((length, height, width, 3), 128, np.uint8)
    for step, frame in enumerate(frames):
        frame[20:40, 2 * step : 2 * step + 20] = 255
    return frames


@pytest.fixture
def no_encoder(monkeypatch):
    def missing():
        raise paths.NoEncoder("no ffmpeg was found")

    monkeypatch.setattr(paths, "ffmpeg", missing)


def decoded(mp4, path, height, width):
    path.write_bytes(mp4)
    command = [paths.ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def opened(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))


def test_a_film_holds_its_frames(tmp_path):
    shown = media.show(film(), fps=10, title="A square", alt="A square moves")
    again = decoded(shown.data, tmp_path / "film.mp4", 96, 96)
    assert again.shape == (20, 96, 96, 3)
    assert np.abs(again.astype(int) - film()).mean() < 4
    said = subprocess.run([paths.ffmpeg(), "-i", str(tmp_path / "film.mp4")], capture_output=True, timeout=60).stderr
    assert b"h264" in said and b"yuv420p" in said and b"10 fps" in said and b"00:00:02.00" in said


def test_a_film_is_embedded_with_its_description():
    shown = media.show(film(), 10, title='1 < 2 & "three"', alt='A "square" moves\n  right', width=300)
    page = shown._repr_html_()
    tag = re.search(r"<video[^>]*>", page)[0]
    assert all(word in tag for word in ("controls", "loop", "muted", "playsinline", "width:300px;max-width:100%"))
    assert 'aria-label="A &quot;square&quot; moves right"' in tag and "autoplay" not in tag
    assert "<figcaption>1 &lt; 2 &amp; &quot;three&quot;</figcaption>" in page
    assert base64.b64decode(re.search(r'base64,([^"]+)"', tag)[1]) == shown.data
    assert "http" not in page
    assert repr(shown).startswith("Film(alt=") and len(repr(shown)) < 200


def test_odd_sides_become_even(tmp_path):
    assert decoded(media.encode(film(3, 95, 93), 5), tmp_path / "film.mp4", 96, 94).shape[0] == 3


def test_a_film_fits_into_its_limit():
    noise = np.random.default_rng(0).integers(0, 255, (10, 96, 96, 3), dtype=np.uint8)
    best = media.encode(noise, 10)
    assert len(media.encode(noise, 10, largest=len(best) // 2)) <= len(best) // 2


def test_what_is_shown_can_be_saved(tmp_path):
    shown = media.show(film(), 10, "A square", "A square moves")
    assert shown.save(tmp_path / "runs" / "film.mp4").read_bytes() == shown.data == media.encode(film(), 10)
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["film.mp4"]


def test_without_an_encoder_there_are_stills(tmp_path, no_encoder):
    shown = media.show(film(), 10, title="A square", alt="A square moves")
    assert isinstance(shown, media.Picture) and shown.alt == "A square moves"
    assert shown.title == "A square (stills only: no ffmpeg was found)"
    path = shown.save(tmp_path / "film.mp4")
    assert path == tmp_path / "film.png" and Image.open(path).format == "PNG"


@pytest.mark.parametrize("script", ["exit 3", "echo broken pipe >&2; exit 1", "exit 0"])
@pytest.mark.parametrize("first", ["cat > /dev/null", ""])
def test_a_broken_encoder_is_noticed(tmp_path, monkeypatch, script, first):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{first}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(paths, "ffmpeg", lambda: str(program))
    with pytest.raises(paths.NoEncoder, match="could not encode"):
        media.encode(film(100), 10)  # more than a pipe holds


def test_an_encoder_that_is_no_program_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ffmpeg", lambda: str(tmp_path / "absent"))
    with pytest.raises(paths.NoEncoder, match="could not encode"):
        media.encode(film(), 10)


def test_a_strip_shows_evenly_spaced_frames():
    frames = np.repeat(np.arange(29, dtype=np.uint8) * 8, 32 * 32 * 3).reshape(29, 32, 32, 3)
    strip = media.strip(frames, n=8, fps=10)
    sheet = opened(strip)
    lefts = [place * (192 + 8) for place in range(8)]
    assert sheet.shape[1] == lefts[-1] + 192 and strip.width == sheet.shape[1] // 2
    assert [int(sheet[40, left + 40, 0]) for left in lefts] == [8 * index for index in range(0, 29, 4)]
    assert (sheet[192:] < 128).any(), "no time stamps"
    assert strip.alt == "8 frames of a film, from 0 to 2.8 s"
    assert opened(media.strip(frames[:3], n=8)).shape[1] == 3 * 200 - 8


def test_a_grid_holds_the_last_frame_and_marks_success():
    short, long = film(5, 10, 12) // 2, film(9, 10, 12)
    grid = media.grid([short, long, short], success=[True, True, False], columns=2)
    assert grid.shape == (9, 2 * 18, 2 * 20, 3)
    assert np.array_equal(grid[:5, 4:14, 4:16], short) and (grid[5:, 4:14, 4:16] == short[-1]).all()
    assert np.array_equal(grid[:, 4:14, 24:36], long)
    colours = [tuple(int(part) for part in grid[step, 0, 0]) for step in (3, 4, 8)]
    assert colours == [media.RUNNING, media.SUCCESS, media.SUCCESS]
    assert tuple(grid[7, 0, 20]) == media.RUNNING and tuple(grid[8, 0, 20]) == media.SUCCESS
    assert tuple(grid[8, 18, 0]) == media.FAILURE
    assert (grid[:, 18:, 20:] == 255).all(), "the empty place is white"


def test_bad_films_are_refused():
    for frames in (film().astype(float), film()[0], film()[:0], film()[..., :2]):
        with pytest.raises(UserError, match="a film is frames"):
            media.encode(frames, 10)
    with pytest.raises(UserError, match="0 frames a second"):
        media.encode(film(), 0)
    with pytest.raises(UserError, match="description"):
        media.show(film(), 10, "title", alt=" ")
    with pytest.raises(UserError, match="one size"):
        media.grid([film(), film(height=50)], [True, True], 2)
    with pytest.raises(UserError, match="one size"):
        media.grid([], [], 2)
    with pytest.raises(UserError, match="2 films and 1"):
        media.grid([film(), film()], [True], 2)
    with pytest.raises(UserError, match="0 frames"):
        media.strip(film(), n=0)
