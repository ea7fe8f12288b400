"""What data sets of other people are like: what is read, what is left out and named, what is refused, and how."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ilbook import formats, paths
from ilbook.data import files
from ilbook.errors import UserError
from ilbook.formats import native, stream
from ilbook.press import cli
from tests.unit import test_formats_bad as bad

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
TOP = "observation.images.top"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return {kind: bad.made(kind, tmp_path_factory.mktemp(kind)) for kind in bad.TABLES}


@pytest.fixture
def copy(sound, tmp_path):
    def of(kind: str):
        target = tmp_path / sound[kind].name
        return shutil.copytree(sound[kind], target) if sound[kind].is_dir() else shutil.copy(sound[kind], target)

    return of


def taken(source, target, **options):
    said = formats.import_(source, target, **options)
    return said, files.read(target)


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


# --- pictures and films of other kinds than 3 x 8 bits ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_of_one_channel_keep_their_bits(copy, tmp_path, dtype):
    root, depth = copy("lerobot"), RNG.integers(0, np.iinfo(dtype).max, (20, 6, 8)).astype(dtype)
    rows = [{"bytes": encoded(picture), "path": None} for picture in depth]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    bad.change_table(root / bad.DATA, lambda t: t.append_column("observation.depth", pa.array(rows, kind)))
    said = {"dtype": "image", "shape": [6, 8, 1]}
    bad.info(lambda i: i["features"].update({"observation.depth": said}))(root)
    _, found = taken(root, tmp_path / "out")
    assert found["depth"].dtype == dtype and np.array_equal(found["depth"][..., 0], depth)
    bad.feature("observation.depth", shape=[8, 6, 1])(root)
    left_out = formats.import_(root, tmp_path / "other")["left_out"]
    assert "has shape (8, 6, 1), but the first picture (6, 8, 1)" in left_out["depth"]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [16, 16, 4]},
        {"shape": [16, 16]},
        {"info": {"is_depth_map": True}},
        {"info": {"video.is_depth_map": True}},
        {"shape": [16, 16, 1], "info": {"video.pix_fmt": "yuv420p12le"}},
        {"info": {"video.pix_fmt": "gray16be"}},
    ],
)
def test_films_that_are_no_pictures_of_8_bits_are_left_out(copy, tmp_path, change):
    root = copy("lerobot")
    bad.feature(TOP, **change)(root)
    said = formats.import_(root, tmp_path / "out")
    assert "top" not in said["arrays"] and "1 or 3 channels of 8 bits" in said["left_out"]["top"]


def test_a_grey_film_of_12_bits_is_not_read_as_8(copy, tmp_path):
    root, film = copy("lerobot"), ("-f", "lavfi", "-i", "testsrc=s=16x16:r=10:d=2", "-pix_fmt", "gray12le")
    command = [paths.ffmpeg(), "-v", "error", *film, "-c:v", "ffv1", "-f", "matroska", "-y", str(root / bad.VIDEO)]
    subprocess.run(command, check=True)
    with pytest.raises(UserError, match=r"file-000.mp4: has pixels gray12le.*; take the others with --arrays"):
        formats.import_(root, tmp_path / "out")
    formats.import_(root, tmp_path / "out", arrays=["state"])


@pytest.mark.parametrize(("same", "kind"), [(True, "JPEG"), (False, "JPEG"), (False, "PNG")])
def test_encoded_pictures_of_minari_are_decoded(tmp_path, same, kind):
    """Of equal pictures all codes are equally long, and look like an array of numbers."""
    pictures = np.full((5, 8, 8, 3), 90, np.uint8) if same else RNG.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    codes = [np.frombuffer(encoded(picture, kind), np.uint8) for picture in pictures]
    with h5py.File(tmp_path / "eyes.hdf5", "w") as file:
        for episode in range(2):
            file[f"episode_{episode}/actions"] = np.zeros((4, 2))
            kept = file.create_dataset(f"episode_{episode}/observations", (5,), h5py.vlen_dtype(np.uint8))
            if same:
                del file[f"episode_{episode}/observations"]
                file[f"episode_{episode}/observations"] = np.stack(codes)
            else:
                for row, code in enumerate(codes):
                    kept[row] = code
    _, found = taken(tmp_path / "eyes.hdf5", tmp_path / "out")
    must = np.stack([np.asarray(Image.open(io.BytesIO(code.tobytes()))) for code in codes[:4]])
    assert np.array_equal(found["obs"], np.concatenate([must, must]))


# --- what does not fit is left out and named, whatever the format ---


def odd_hdf5(path):
    with h5py.File(path, "r+") as file:
        for demo in (file[f"data/demo_{i}"] for i in range(3)):
            demo["nowhere"], demo["outside"] = h5py.SoftLink("/none"), h5py.ExternalLink("none.h5", "/x")
            demo["empty"], demo["kind"], demo["one"] = h5py.Empty("f"), np.dtype("f8"), 3.0
            demo["text"], demo["start"] = "abc", np.zeros((1, 9))
        file["mask/train"], file["data/demo_x/actions"] = np.array([b"demo_0"]), np.zeros((3, 2))
    return {"nowhere", "outside", "empty", "kind", "one", "text", "start", "/mask", "/data/demo_x"}


def odd_zarr(root):
    for name in ("elsewhere/x", "meta/lengths"):
        shutil.copytree(root / "data" / "state", root / name)
    shutil.copytree(root / "data" / "state", root / "data" / "text")
    bad.zarray("data/text", dtype="|S20")(root)
    return {"elsewhere/x", "meta/lengths", "text"}


def odd_lerobot(root):
    bad.change_table(root / bad.DATA, lambda t: t.append_column("extra", t["index"]))
    ghost = {"dtype": "float32", "shape": [2]}
    texts = {"dtype": "string", "shape": [1]}
    bad.info(lambda i: i["features"].update({"ghost": ghost, "language": texts}))(root)
    bad.data(bad.cast("observation.state", pa.list_(pa.float64(), 5)))(root)
    return {"extra", "ghost", "language", "state"}


def odd_npz(path):
    stored = dict(np.load(path))
    more = {"objects": np.array([None] * 20), "text": np.array(["a"] * 20), "one": np.array(1.0), "few": np.zeros(3)}
    np.savez(path, **stored, **more)
    return set(more)


@pytest.mark.parametrize("kind", ["hdf5", "zarr", "lerobot", "npz"])
def test_one_rule_for_what_does_not_fit(copy, tmp_path, capsys, kind):
    source = tmp_path / "set.npz"
    if kind == "npz":
        formats.import_(copy("native"), source)
    else:
        source = copy(kind)
    before = formats.import_(source, tmp_path / "before")["arrays"]
    odd = {"hdf5": odd_hdf5, "zarr": odd_zarr, "lerobot": odd_lerobot, "npz": odd_npz}[kind](source)
    assert cli.main(["data", "import", str(source), str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert set(files.read(tmp_path / "out").arrays) == set(before) - odd
    assert {line.split()[2] for line in out.splitlines() if line.startswith("left out: ")} == odd
    assert out.endswith("--arrays says which arrays to take and refuses misfits\n")
    for name in odd:
        with pytest.raises(UserError):
            formats.import_(source, tmp_path / "asked", arrays=[name])
    assert not (tmp_path / "asked").exists()
    assert formats.import_(source, tmp_path / "asked", arrays=[])["left_out"] == {}


def test_a_damaged_array_that_is_not_asked_for_is_not_opened(copy, tmp_path):
    root = copy("native")
    (root / "state.npy").unlink()
    assert taken(root, tmp_path / "out", arrays=["top"])[0]["arrays"] == ["action", "top"]


# --- what is said twice must agree ---


@pytest.mark.parametrize("longer", [0, 1])
def test_last_observations_in_some_episodes_only_are_refused(tmp_path, longer):
    with h5py.File(tmp_path / "mixed.hdf5", "w") as file:
        for episode, n in enumerate((3, 4)):
            file[f"episode_{episode}/actions"] = np.zeros((n, 2))
            file[f"episode_{episode}/observations"] = np.zeros((n + (episode == longer), 3))
    end = "it must be 4" if longer else "it must be 5, one more, as in mixed.hdf5/episode_0/observations"
    with pytest.raises(UserError, match=rf"episode_1/observations has {4 + longer} rows for 4 actions; {end}"):
        formats.import_(tmp_path / "mixed.hdf5", tmp_path / "out", arrays=["obs"])
    h5py.File(tmp_path / "mixed.hdf5", "r+").close()  # nobody holds it any more
    assert formats.import_(tmp_path / "mixed.hdf5", tmp_path / "out")["arrays"] == ["action"]
    h5py.File(tmp_path / "mixed.hdf5", "r+").close()


@pytest.mark.parametrize(("begin", "must"), [(0.3, "is 3 frames .* say 4"), (0.44, "is 4.4 frames .* say 4")])
def test_films_begin_at_a_frame_and_after_the_one_before(copy, tmp_path, begin, must):
    root, key = copy("lerobot"), f"videos/{TOP}"
    bad.listed(bad.column(f"{key}/from_timestamp", 1, begin), bad.column(f"{key}/to_timestamp", 1, begin + 0.5))(root)
    with pytest.raises(UserError, match=rf"from_timestamp', row 1: {must}"):
        formats.import_(root, tmp_path / "out")


def test_a_clock_may_be_inexact_if_one_says_so(copy, tmp_path, capsys):
    root = copy("lerobot")
    off = [index % 11 / 10 + 5e-4 for index in range(20)]
    frames = [i - start for start, end in ((0, 4), (4, 9), (9, 20)) for i in range(start, end)]
    off = pa.array([frame / 10 + 5e-4 for frame in frames], pa.float32())
    bad.change_table(root / bad.DATA, lambda t: t.set_column(t.column_names.index("timestamp"), "timestamp", off))
    words = ["data", "import", str(root), str(tmp_path / "out")]
    assert cli.main(words) == 2 and "; --tolerance S accepts a clock" in capsys.readouterr().err
    assert cli.main([*words, "--tolerance", "1e-4"]) == 2 and "--tolerance" in capsys.readouterr().err
    assert cli.main([*words, "--tolerance", "1e-3"]) == 0
    formats.export(root, tmp_path / "a.zarr", "zarr", tolerance=1e-3)
    with pytest.raises(UserError, match=r"tolerance is 0.1; it is for the seconds of LeRobotDataset v3.0"):
        formats.import_(tmp_path / "a.zarr", tmp_path / "x", tolerance=0.1)
    with pytest.raises(UserError, match=r"tolerance is -1"):
        formats.import_(root, tmp_path / "x", tolerance=-1)
    bad.data(bad.column("timestamp", 6, 0.3))(root)  # another frame, which no clock explains
    with pytest.raises(UserError, match=r"row 0: .*say 0 s at 10 frames a second$"):
        formats.import_(root, tmp_path / "x")


# --- a full disk and an end from outside ---

FULL = """
import resource, sys
from ilbook.press import cli
from tests.unit import test_formats_bad as bad
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [600, 30_000, 300_000])
@pytest.mark.parametrize("kind", ["hdf5", "zarr", "lerobot", "video", "npz", "folder"])
def test_where_no_more_can_be_written_the_old_target_stays(tmp_path, kind, limit):
    content = {"action": RNG.standard_normal((6000, 30)), "eye": RNG.integers(0, 256, (6000, 8, 8, 3), dtype=np.uint8)}
    source, target = tmp_path / "source", tmp_path / ("old.npz" if kind == "npz" else "old")
    made = stream.from_arrays(content, np.array([2000, 6000]), {"fps": 10}, "made")
    native.write(made, source, as_file=False)
    native.write(stream.from_arrays({"action": np.ones((3, 1))}, np.array([3]), {}, "old"), target, kind == "npz")
    before = {path: path.read_bytes() for path in [target, *target.rglob("*")] if path.is_file()}
    words = {"npz": ["import"], "folder": ["import"], "video": ["export", "--format", "lerobot", "--video"]}
    command = [*words.get(kind, ["export", "--format", kind]), str(source), str(target), "--force"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), "data", *command], capture_output=True, text=True, env={**os.environ}
    )
    if kind == "zarr" and limit == 300_000:  # many small files
        return
    assert done.returncode == 2 and done.stderr.startswith("ilbook: ") and done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr or "Broken pipe" in done.stderr or kind == "video", done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([target.name, "source"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("format", ["hdf5", "zarr", "lerobot", None])
def test_a_signal_leaves_nothing_behind(copy, tmp_path, monkeypatch, capsys, number, format):
    source, finite = copy("native"), stream.check_finite

    def end(array, where, first):
        finite(array, where, first)
        os.kill(os.getpid(), number)

    words = ["data", *(["export", "--format", format] if format else ["import"]), str(source), str(tmp_path / "out")]
    old = signal.signal(number, signal.SIG_DFL)
    try:
        monkeypatch.setattr(stream, "check_finite", end)
        assert cli.main(words) == 130 and "interrupted" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["native"]
        signal.signal(number, signal.SIG_IGN)  # as under nohup
        assert cli.main(words) == 0
    finally:
        signal.signal(number, old)


# --- sentences that lead on ---


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("lerobot", "meta/info.json"), ("lerobot", bad.DATA), ("lerobot", bad.VIDEO), ("zarr", "data/action/0.0"),
        ("zarr", "meta/episode_ends/.zarray"), ("native", "state.npy"), ("native", "ilbook.json"), ("hdf5", ""),
    ],
)  # fmt: skip
def test_a_pointer_of_git_lfs_is_named_in_every_format(copy, tmp_path, kind, name):
    source = copy(kind)
    (source / name if name else source).write_text(POINTER)
    with pytest.raises(UserError, match=r"is only a pointer of Git LFS; fetch the data with 'git lfs pull'") as error:
        formats.import_(source, tmp_path / "out")
    assert str(error.value).startswith(f"{source.name}/{name}".rstrip("/") + " ")


@pytest.mark.parametrize("name", ["a.npz", "a.zip", "a.zarr.zip", "a.h5"])
def test_a_file_that_is_a_pointer_of_git_lfs_is_named(tmp_path, name):
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(UserError, match=rf"^{name} is only a pointer of Git LFS"):
        formats.import_(tmp_path / name, tmp_path / "out")


def test_a_pointer_in_place_of_what_is_left_out_is_named_too(copy, tmp_path):
    root = copy("zarr")
    (root / "data" / "state" / ".zarray").write_text(POINTER)
    said = formats.import_(root, tmp_path / "out")["left_out"]["state"]
    assert said == "set.zarr/data/state/.zarray is only a pointer of Git LFS; fetch the data with 'git lfs pull'"


def packed(target, *stores):
    with zipfile.ZipFile(target, "w") as archive:
        for above, store in stores:
            for path in [store, *sorted(store.rglob("*"))]:
                archive.write(path, above + path.relative_to(store).as_posix())
    return target


@pytest.mark.parametrize("name", ["a.zip", "a.ZIP", "a.zarr", "a.zarr.zip"])
@pytest.mark.parametrize("above", ["", "./", "set.zarr/", "my/own/"])
def test_a_packed_store_is_read_whatever_its_name(sound, tmp_path, name, above):
    found = taken(packed(tmp_path / name, (above, sound["zarr"])), tmp_path / "out")[1]
    assert np.array_equal(found["state"], bad.arrays()["state"])


def test_other_packages_and_folders_are_refused_with_a_way_on(sound, tmp_path):
    two = packed(tmp_path / "two.zip", ("a/", sound["zarr"]), ("b/", sound["zarr"]))
    with pytest.raises(UserError, match=r"two.zip holds 2 stores, a/, b/; unpack it and import one of them"):
        formats.import_(two, tmp_path / "out")
    with pytest.raises(UserError, match=r"lr.zip is no data set of a format known here; unpack it; known are"):
        formats.import_(packed(tmp_path / "lr.zip", ("", sound["lerobot"])), tmp_path / "out")
    (tmp_path / "above").mkdir()
    shutil.copytree(sound["zarr"], tmp_path / "above" / "set.zarr")
    with pytest.raises(UserError, match=r"known here; inside there is set.zarr; known are"):
        formats.import_(tmp_path / "above", tmp_path / "out")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "zarr.json").write_text("{}")
    for newer in (tmp_path / "new", packed(tmp_path / "new.zip", ("x/", tmp_path / "new"))):
        with pytest.raises(UserError, match=r"is zarr format 3; .* write it anew with zarr_format=2"):
            formats.import_(newer, tmp_path / "out")


@pytest.mark.parametrize("place", ["data", "."])
def test_minari_in_other_files_than_hdf5_is_named(tmp_path, place):
    folder = tmp_path / "door" / place
    (folder / "0").mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps({"data_format": "arrow", "total_episodes": 1}))
    with pytest.raises(UserError, match=r"door is Minari's arrow or parquet, .* data_format='hdf5'"):
        formats.import_(tmp_path / "door", tmp_path / "out")


def test_a_locked_or_unreadable_file_is_not_called_short(copy, tmp_path, monkeypatch):
    source = copy("hdf5")
    code = "import h5py, sys; kept = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(source)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match=r"^set.hdf5 is locked: another program has it open; close it there"):
            formats.import_(source, tmp_path / "out")
        other.stdin.close()
    for number, words in ((13, "Permission denied"), (5, "Input/output error"), (24, "Too many open files")):
        sentence = rf"^x cannot be read: {words}; make it readable$"
        with pytest.raises(UserError, match=sentence), files.readable("x", "file", OSError):
            raise OSError(number, "it failed")


def test_absent_chunks_are_values_of_actions_too_unless_none_is_there(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    store = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    action = np.zeros((20, 2), np.float32)
    action[:5] = 1
    store.create_array("data/action", data=action, chunks=(5, 1))
    store.create_array("data/reward", data=np.zeros(20))
    store.create_array("meta/episode_ends", data=bad.ENDS)
    assert not (tmp_path / "a.zarr" / "data" / "reward" / "0").exists()
    found = taken(tmp_path / "a.zarr", tmp_path / "out")[1]
    assert np.array_equal(found["action"], action) and not found["reward"].any()
    for chunk in (tmp_path / "a.zarr" / "data" / "action").glob("0.*"):
        chunk.unlink()
    with pytest.raises(UserError, match=r"data/action: chunk 0.0 .* is missing; copy the store again"):
        formats.import_(tmp_path / "a.zarr", tmp_path / "x")
    (tmp_path / "a.zarr" / "meta" / "episode_ends" / "0").unlink()
    with pytest.raises(UserError, match=r"meta/episode_ends: chunk 0 .* is missing"):
        formats.import_(tmp_path / "a.zarr", tmp_path / "x")
