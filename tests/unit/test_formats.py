"""Demonstrations in other formats: round trips change nothing, targets are never half-written."""

import io
import json
import os

import numpy as np
import pytest

from ilbook import data, formats, tasks
from ilbook.data import files
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.formats import native, stream
from ilbook.press import cli

ENDS = np.array([3, 10, 24])
META = {"fps": 10, "tasks": ["push"], "note": "for a test", "names": {"state": ["x", "y", "angle"]}}


def mixed(pictures: bool = True) -> dict[str, np.ndarray]:
    """Arrays of many kinds, with the values that rounding or a detour over other types would change."""
    rng = np.random.default_rng(0)
    state = rng.standard_normal((24, 3)).astype(np.float32)
    state[0] = [np.float32(1) / 3, np.finfo(np.float32).tiny / 2, -0.0]  # a denormal, a negative zero
    arrays = {
        "state": state,
        "action": rng.standard_normal((24, 2)).astype(np.float32),
        "obs": rng.standard_normal((24, 5)).astype(np.float32),
        "keypoint": rng.standard_normal((24, 9, 2)).astype(np.float32),
        "exact": rng.standard_normal((24, 4)),
        "one": rng.standard_normal((24, 1)).astype(np.float32),
        "reward": rng.standard_normal(24).astype(np.float32),
        "done": rng.random(24) > 0.5,
        "count": rng.integers(-9, 9, (24, 2)).astype(np.int32),
        "half": rng.standard_normal((24, 2)).astype(np.float16),
        "Half": rng.standard_normal((24, 2)).astype(np.float32),  # a file system may ignore case
    }
    if pictures:
        arrays["image"] = rng.integers(0, 256, (24, 6, 8, 3), dtype=np.uint8)
    return arrays


def store(folder, arrays=None, ends=ENDS, meta=META):
    """A native folder of these arrays."""
    arrays = mixed() if arrays is None else arrays
    native.write(stream.from_arrays(arrays, ends, meta, "made"), folder, as_file=False)
    return folder


def same(one: Episodes, arrays: dict, ends=ENDS) -> None:
    """Names, dtypes, shapes and every bit."""
    assert set(one.arrays) == set(arrays)
    for name, array in arrays.items():
        assert (one[name].dtype, one[name].shape) == (array.dtype, array.shape), name
        assert one[name].tobytes() == array.tobytes(), name
    assert one.episode_ends.tolist() == list(ends) and one.episode_ends.dtype == np.int64


@pytest.mark.parametrize("format", ["lerobot", "zarr", "hdf5"])
@pytest.mark.parametrize("target", ["back", "back.npz"])
def test_a_round_trip_changes_no_bit(tmp_path, format, target):
    source = store(tmp_path / "source")
    said = formats.export(source, tmp_path / "there", format)
    assert (said["episodes"], said["steps"]) == (3, 24)
    formats.import_(tmp_path / "there", tmp_path / target)
    back = files.read(tmp_path / target)
    same(back, mixed())
    assert list(back.arrays) == list(mixed())
    assert back.meta["fps"] == 10 and back.meta["tasks"] == ["push"] and back.meta["note"] == "for a test"
    assert back.meta["names"]["state"] == ["x", "y", "angle"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["source", "there", target])


@pytest.mark.parametrize(("first", "second"), [("lerobot", "hdf5"), ("hdf5", "zarr"), ("zarr", "lerobot")])
def test_one_foreign_format_can_be_exported_as_another(tmp_path, first, second):
    formats.export(store(tmp_path / "source"), tmp_path / "one", first)
    formats.export(tmp_path / "one", tmp_path / "two", second)
    formats.import_(tmp_path / "two", tmp_path / "back")
    same(files.read(tmp_path / "back"), mixed())


def test_blocks_smaller_than_an_episode_give_the_same_files(tmp_path, monkeypatch):
    source = store(tmp_path / "source")
    monkeypatch.setattr(stream, "BLOCK_BYTES", 2 * sum(array[0].nbytes for array in mixed().values()))
    for format in formats.FORMATS:
        formats.export(source, tmp_path / format, format)
        formats.import_(tmp_path / format, tmp_path / f"{format}.npz")
        same(files.read(tmp_path / f"{format}.npz"), mixed())


def test_a_folder_is_read_memory_mapped_and_an_npz_is_the_same(tmp_path):
    folder = store(tmp_path / "folder")
    mapped = files.read(folder, {"state": 3})
    assert all(isinstance(array, np.memmap) for array in mapped.arrays.values())
    same(mapped, mixed())
    formats.import_(folder, tmp_path / "one.npz")
    formats.import_(tmp_path / "one.npz", tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    same(files.read(tmp_path / "two.npz"), mixed())
    assert files.read(tmp_path / "two.npz").meta == mapped.meta == META


def test_a_shipped_data_set_is_exported_by_its_name(tmp_path):
    shipped = data.load("avoid")
    formats.export("avoid", tmp_path / "avoid", "lerobot")
    formats.import_(tmp_path / "avoid", tmp_path / "avoid.npz")
    back = files.read(tmp_path / "avoid.npz")
    same(back, shipped.arrays, shipped.episode_ends)
    assert back.meta["fps"] == tasks.get("avoid").control_hz and back.meta["tasks"][0]
    with pytest.raises(UserError, match=r"neither as a path nor among the shipped .* did you mean avoid\?"):
        formats.export("avoidd", tmp_path / "x", "lerobot")


def test_a_folder_that_only_bears_the_name_of_a_shipped_set_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "avoid").mkdir()
    monkeypatch.chdir(tmp_path)
    assert formats.export("avoid", "there", "zarr")["episodes"] == len(data.load("avoid"))
    native.write(stream.from_arrays(mixed(), ENDS, META, "made"), tmp_path / "pusht", as_file=False)
    assert formats.export("pusht", "here", "zarr")["episodes"] == 3


def test_the_command_line_converts_and_refuses(tmp_path, capsys):
    source = store(tmp_path / "source")
    there, home = str(tmp_path / "there"), str(tmp_path / "home.npz")
    assert cli.main(["data", "export", str(source), there, "--format", "lerobot", "--arrays", "state", "obs"]) == 0
    assert cli.main(["data", "import", there, home, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert (said["episodes"], said["steps"], said["arrays"]) == (3, 24, ["state", "action", "obs"])
    assert cli.main(["data", "import", there, home]) == 2
    assert "home.npz exists already; choose another target or replace it with --force" in capsys.readouterr().err
    assert cli.main(["data", "import", there, home, "--force", "--fps", "30"]) == 0
    assert files.read(tmp_path / "home.npz").meta["fps"] == 30


def test_arrays_can_be_chosen_and_action_always_comes_along(tmp_path):
    source = store(tmp_path / "source")
    for format in formats.FORMATS:
        formats.export(source, tmp_path / format, format, arrays=["state", "reward"])
        formats.import_(tmp_path / format, tmp_path / f"{format}.npz", arrays=["state"])
        assert set(files.read(tmp_path / f"{format}.npz").arrays) == {"state", "action"}
        with pytest.raises(UserError, match="unknown array 'stat'; nearest valid name: 'state'"):
            formats.import_(tmp_path / format, tmp_path / "x", arrays=["stat"])
    with pytest.raises(UserError, match="arrays is a list of names"):
        formats.import_(source, tmp_path / "x", arrays="state")
    assert not (tmp_path / "x").exists()


# --- schema ---


def header(path, **change) -> None:
    """Change entries of a folder's header."""
    said = json.loads((path / files.HEADER).read_text())
    (path / files.HEADER).write_text(json.dumps({**said, **change}))


def test_another_schema_is_refused_in_one_sentence(tmp_path):
    folder = store(tmp_path / "folder")
    formats.import_(folder, tmp_path / "one.npz")
    header(folder, schema=files.SCHEMA + 1)
    with pytest.raises(UserError, match=r"folder/ilbook.json: has schema 4, but this ilbook reads 3; convert the data"):
        files.read(folder)
    formats.export(tmp_path / "one.npz", tmp_path / "lr", "lerobot")
    ours = tmp_path / "lr" / "meta" / "ilbook.json"
    ours.write_text(json.dumps({**json.loads(ours.read_text()), "schema": 4}))
    with pytest.raises(UserError, match=r"lr/meta/ilbook.json: has schema 4"):
        formats.import_(tmp_path / "lr", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_meta_of_a_file_is_that_of_a_folder(tmp_path):
    episodes = Episodes({"action": np.ones((4, 2), np.float32)}, np.array([4]), {"tried": 5, "fps": 20})
    files.save(tmp_path / "one.npz", episodes)
    before = (tmp_path / "one.npz").read_bytes()
    formats.import_(tmp_path / "one.npz", tmp_path / "folder")
    formats.import_(tmp_path / "folder", tmp_path / "two.npz")
    assert all(files.read(tmp_path / name).meta == episodes.meta for name in ("one.npz", "folder", "two.npz"))
    assert (tmp_path / "one.npz").read_bytes() == before


def test_any_name_of_an_array_makes_a_file(tmp_path):
    names = ["action", "Action", "a/b", "../up", "con\u00e9", ".hidden"]
    content = {name: np.full((24, 2), place, np.float32) for place, name in enumerate(names)}
    folder = store(tmp_path / "folder", content)
    same(files.read(folder), content)
    stems = {path.stem.lower() for path in folder.iterdir()}
    assert len(stems) == len(names) + 1 and sorted(path.name for path in tmp_path.iterdir()) == ["folder"]
    formats.import_(folder, tmp_path / "all.npz")
    same(files.read(tmp_path / "all.npz"), content)
    taken = store(tmp_path / "taken", {"action": content["action"], "meta": content["action"]})
    with pytest.raises(UserError, match=r"an array cannot be called 'meta' in an .npz of episodes; write a folder"):
        formats.import_(taken, tmp_path / "x.npz")


# --- targets ---


def test_an_existing_target_is_kept_unless_forced(tmp_path):
    source, target = store(tmp_path / "source"), store(tmp_path / "target", {"action": np.zeros((24, 2))})
    with pytest.raises(UserError, match=r"target exists already; choose another target or replace it with --force"):
        formats.import_(source, target)
    assert set(files.read(target).arrays) == {"action"}
    formats.import_(source, target, force=True)
    same(files.read(target), mixed())
    formats.export(source, target, "zarr", force=True)  # of another format
    assert (target / ".zgroup").is_file() and not (target / files.HEADER).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_force_does_not_replace_what_is_no_data_set(tmp_path):
    source = store(tmp_path / "source")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    with pytest.raises(UserError, match="letters is not a data set, so --force does not replace it"):
        formats.import_(source, tmp_path / "letters", force=True)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    formats.import_(source, tmp_path / "empty", force=True)
    same(files.read(tmp_path / "empty"), mixed())


@pytest.mark.parametrize("force", [False, True])
def test_a_failure_midway_leaves_the_target_and_the_folder_as_they_were(tmp_path, force, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
    arrays = mixed()
    arrays["obs"][20, 3] = np.inf
    source = store_unchecked(tmp_path / "source", arrays)
    old = store(tmp_path / "old", {"action": np.zeros((24, 2))})
    before = {path: path.read_bytes() for path in old.iterdir()}
    target = old if force else tmp_path / "new"
    for run in (
        *(lambda f=f: formats.export(source, target, f, force) for f in formats.FORMATS),
        lambda: formats.import_(source, target, force),
    ):
        with pytest.raises(UserError, match=r"source: array 'obs', row 20: holds inf; demonstrations must be finite"):
            run()
    assert {path: path.read_bytes() for path in old.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "source"]


def store_unchecked(folder, arrays):
    """A native folder whose values are wrong."""
    store(folder, {name: np.zeros_like(array) for name, array in arrays.items()})
    listed = json.loads((folder / files.HEADER).read_text())["arrays"]
    for name, array in arrays.items():
        np.save(folder / listed[name]["file"], array)
    return folder


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    source, finite = store(tmp_path / "source"), stream.check_finite

    def interrupt(array, where, first):
        finite(array, where, first)
        if "reward" in where:
            raise KeyboardInterrupt

    monkeypatch.setattr(stream, "check_finite", interrupt)
    for format in formats.FORMATS:
        with pytest.raises(KeyboardInterrupt):
            formats.export(source, tmp_path / "target", format)
    with pytest.raises(KeyboardInterrupt):
        formats.import_(source, tmp_path / "target.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_when_the_last_renaming_fails_the_old_target_is_back(tmp_path, monkeypatch):
    source, target = store(tmp_path / "source"), store(tmp_path / "target", {"action": np.zeros((24, 2))})
    rename = type(target).rename

    def failing(self, other):
        if self.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return rename(self, other)

    monkeypatch.setattr(type(target), "rename", failing)
    with pytest.raises(UserError, match=r"cannot write .*target: No space left on device; free some space"):
        formats.import_(source, target, force=True)
    assert set(files.read(target).arrays) == {"action"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("source", "source", "source is the source .*source, or one lies inside the other"),
        ("source", "source/inside", "or one lies inside the other"),
        ("source", "link/inside", "or one lies inside the other"),
        ("outer/source", "outer", "outer is the source .*source, or one lies inside the other"),
        ("sorce", "x", "there is no .*sorce; did you mean source?"),
        ("zzz", "x", "there is no .*zzz; check the path"),
        ("letters", "x", r"letters is no data set of a format known here; known are: ilbook .*LeRobot.*HDF5"),
        ("dear.txt", "x", r"dear.txt is no data set of a format known here"),
        ("source", "x.zarr", "x.zarr: import writes .npz files or folders; to write .zarr use export"),
    ],
)
def test_wrong_sources_and_targets_are_refused(tmp_path, source, target, sentence):
    store(tmp_path / "source")
    (tmp_path / "outer").mkdir()
    store(tmp_path / "outer" / "source")
    (tmp_path / "letters").mkdir()
    (tmp_path / "dear.txt").write_text("dear reader")
    (tmp_path / "link").symlink_to(tmp_path / "source")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")) as error:
        formats.import_(tmp_path / source, tmp_path / target, force=True)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_options_are_refused(tmp_path):
    source = store(tmp_path / "source", meta={})
    with pytest.raises(UserError, match="unknown format 'lerobt'; nearest valid name: 'lerobot'"):
        formats.export(source, tmp_path / "x", "lerobt")
    with pytest.raises(UserError, match=r"x.npz: export writes zarr; to write .npz use import"):
        formats.export(source, tmp_path / "x.npz", "zarr")
    with pytest.raises(UserError, match="video is for the format lerobot"):
        formats.export(source, tmp_path / "x", "zarr", video=True)
    with pytest.raises(UserError, match=r"LeRobot needs a whole number of frames a second, and .* says None; give"):
        formats.export(source, tmp_path / "x", "lerobot")
    for fps, sentence in ((0, "fps is 0"), (12.5, "LeRobot needs a whole number .* says 12.5; give one")):
        with pytest.raises(UserError, match=sentence):
            formats.export(source, tmp_path / "x", "lerobot", fps=fps)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert formats.export(source, tmp_path / "x", "lerobot", fps=20.0)["fps"] == 20


# --- progress ---


def test_the_bar_shows_the_steps_and_only_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    source, shown = store(tmp_path / "source"), []
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1)
    for out in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", out)
        formats.import_(source, tmp_path / "there", force=True)
        shown.append(out.getvalue())
    assert "import: 100%" in shown[0] and "24/24" in shown[0] and shown[1] == ""


def test_nothing_heavy_is_imported_before_it_is_needed():
    import subprocess
    import sys

    code = (
        "import sys; before = set(sys.modules); import ilbook.formats as f; "
        "new = {m.split('.')[0] for m in set(sys.modules)}; "
        "print(sorted(new & {'h5py', 'numcodecs', 'pyarrow', 'PIL', 'pandas', 'mujoco', 'imageio_ffmpeg', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
