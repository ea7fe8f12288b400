"""Damaged and inconsistent data sets: one sentence with file, column and row, and the target is untouched."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ilbook import formats
from ilbook.errors import UserError
from ilbook.formats import lerobot_write, native, stream

ENDS = np.array([4, 9, 20])
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "state": rng.standard_normal((20, 5)).astype(np.float32),
        "action": rng.standard_normal((20, 2)).astype(np.float32),
        "top": np.kron(rng.integers(0, 256, (20, 2, 2, 3)), np.ones((8, 8, 1))).astype(np.uint8),
        "side": rng.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8),
    }


def made(kind: str, folder: Path) -> Path:
    """A sound data set of one kind."""
    meta = {"fps": 10, "tasks": ["push"]}
    native.write(stream.from_arrays(arrays(), ENDS, meta, "made"), folder / "native", as_file=False)
    if kind == "lerobot":  # one camera as a video, the other as pictures
        formats.export(folder / "native", folder / "lr", "lerobot", arrays=["state", "top"], video=True)
        formats.export(folder / "native", folder / "lr_pictures", "lerobot", arrays=["side"])
        table = pq.read_table(folder / "lr_pictures" / DATA)
        change_table(
            folder / "lr" / DATA,
            lambda old: old.append_column("observation.images.side", table.column("observation.images.side")),
        )
        said = json.loads((folder / "lr_pictures/meta/info.json").read_text())["features"]["observation.images.side"]
        change_json(
            folder / "lr/meta/info.json", lambda info: info["features"].update({"observation.images.side": said})
        )
        return folder / "lr"
    if kind == "minari":
        with h5py.File(folder / "minari.hdf5", "w") as file:
            for episode, (start, end) in enumerate(zip([0, *ENDS[:-1]], ENDS, strict=True)):
                group = file.create_group(f"episode_{episode}")
                group["observations"] = np.concatenate([arrays()["state"][start:end], np.zeros((1, 5), np.float32)])
                group["actions"] = arrays()["action"][start:end]
                group["rewards"] = np.zeros(end - start)
        return folder / "minari.hdf5"
    if kind == "native":
        return folder / "native"
    formats.export(folder / "native", folder / f"set.{kind}", kind, arrays=["state"])
    return folder / f"set.{kind}"


def change_table(path: Path, change) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(json.dumps(content))


def column(name: str, row: int, value):
    """Change one value of a column of a parquet table."""

    def change(table):
        values = table[name].to_pylist()
        values[row] = value
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(values, table.schema.field(name).type))

    return change


def cast(name: str, type):
    def change(table):
        return table.set_column(table.column_names.index(name), name, table[name].cast(type))

    return change


def data(change):
    return lambda root: change_table(root / DATA, change)


def listed(*changes):
    def spoil(root):
        for change in changes:
            change_table(root / EPISODES, change)

    return spoil


def info(change):
    return lambda root: change_json(root / "meta/info.json", change)


def feature(name: str, **change):
    return info(lambda said: said["features"][name].update(change))


def cut(name: str, share: float = 0.6):
    def spoil(root):
        path = root / name if name else root
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return spoil


def gone(name: str):
    return lambda root: (root / name).unlink()


def loose(name: str, row: int, value):
    """The column as lists of any length, one of them wrong."""
    kind = pa.list_(pa.float32())
    return data(lambda table: column(name, row, value)(cast(name, kind)(table)))


def damaged_page(root):
    """A flipped stretch inside the first column's data; the footer stays whole."""
    path = root / DATA
    raw = bytearray(path.read_bytes())
    raw[20:80] = bytes(60)
    path.write_bytes(bytes(raw))


def other_video(**change):
    """Replace the video by one of other size, rate or length."""
    said = {"height": 16, "width": 16, "fps": 10, "frames": 20, **change}

    def spoil(root):
        (root / VIDEO).unlink()
        movie = lerobot_write.video.Writer(root / VIDEO, said["height"], said["width"], said["fps"])
        movie.add(np.zeros((said["frames"], said["height"], said["width"], 3), np.uint8))
        movie.close()

    return spoil


def picture(value):
    return data(column("observation.images.side", 6, value))


def png(shape) -> dict:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


key = "videos/observation.images.top"
LEROBOT = {
    "missing column": (
        data(lambda t: t.drop_columns(["action"])),
        rf"lr/{DATA}: 'action' is missing; there are obs",
    ),
    "missing index": (data(lambda t: t.drop_columns(["timestamp"])), rf"lr/{DATA}: 'timestamp' is missing"),
    "no action at all": (
        info(lambda i: i["features"].pop("action") and None),
        r"lr/meta/info.json: 'action' is missing",
    ),
    "wrong length": (
        loose("action", 7, [1.0]),
        rf"lr/{DATA}, column 'action', row 7: holds 1 numbers .* \(2,\), has 2",
    ),
    "wrong width": (feature("action", shape=[3]), rf"{DATA}, column 'action', row 0: holds 2 numbers where .* \(3,\)"),
    "too few axes": (
        feature("observation.state", shape=[5, 2]),
        r"'observation.state': has shape \(5,\), but .* \(5, 2\)",
    ),
    "too many axes": (feature("observation.state", shape=[1]), r"column 'observation.state', row 0: holds 5 numbers"),
    "wrong dtype": (
        data(cast("action", pa.list_(pa.float64(), 2))),
        rf"{DATA}, column 'action': holds double, but the feature says float32",
    ),
    "nan": (data(column("action", 11, [0.0, np.nan])), rf"lr/{DATA}, column 'action', row 11: holds nan; .* finite"),
    "null row": (data(column("observation.state", 5, None)), r"column 'observation.state', row 5: is empty"),
    "null number": (
        data(column("observation.state", 5, [1.0, 2.0, None, 4.0, 5.0])),
        r"'observation.state', row 5: is empty",
    ),
    "timestamps of another rate": (
        info(lambda i: i.update(fps=20)),
        r"to_timestamp', row 0: is 8 frames at 20 a second, but .* say 4 frames",
    ),
    "one wrong timestamp": (
        data(column("timestamp", 6, 0.25)),
        rf"lr/{DATA}, column 'timestamp', row 6: is 0.25 s at 10 frames a second, but .* say 0.2 s",
    ),
    "timestamp nan": (data(column("timestamp", 6, np.nan)), r"column 'timestamp', row 6: is nan s"),
    "no fps": (info(lambda i: i.pop("fps") and None), r"lr/meta/info.json: fps is None; it must be a number"),
    "negative fps": (info(lambda i: i.update(fps=-1)), r"info.json: fps is -1"),
    "frame_index": (
        data(column("frame_index", 6, 7)),
        rf"{DATA}, column 'frame_index', row 6: is 7, but .* say 2",
    ),
    "episode_index": (data(column("episode_index", 3, 1)), r"column 'episode_index', row 3: is 1, but .* say 0"),
    "index": (data(column("index", 19, 0)), r"column 'index', row 19: is 0, but .* say 19"),
    "task_index": (
        data(column("task_index", 2, 4)),
        r"column 'task_index', row 2: is 4, but meta/tasks.parquet lists 1 tasks",
    ),
    "rows missing": (
        data(lambda t: t.slice(0, 18)),
        rf"lr/{DATA}: has 18 rows, but its episodes in meta/episodes are 20 long",
    ),
    "truncated parquet": (cut(DATA), rf"lr/{DATA}: not a readable parquet file .* it may be cut short"),
    "empty parquet": (cut(DATA, 0.0), rf"lr/{DATA}: not a readable parquet file"),
    "damaged parquet": (damaged_page, rf"lr/{DATA}: not a readable parquet file \(Corrupt"),
    "missing parquet": (gone(DATA), rf"lr/{DATA} is missing; the data set is not complete"),
    "truncated episodes": (cut(EPISODES), rf"lr/{EPISODES}: not a readable parquet file"),
    "missing episodes": (gone(EPISODES), r"lr/meta/episodes lists no episode"),
    "no episode": (listed(lambda t: t.slice(0, 0)), r"lr/meta/episodes lists no episode"),
    "truncated tasks": (cut("meta/tasks.parquet"), r"lr/meta/tasks.parquet: not a readable parquet file"),
    "missing tasks": (gone("meta/tasks.parquet"), r"lr/meta/tasks.parquet is missing"),
    "tasks from 1": (
        lambda root: change_table(root / "meta/tasks.parquet", column("task_index", 0, 1)),
        r"lr/meta/tasks.parquet, column 'task_index', row 0: is 1, but .* say 0",
    ),
    "episode missing": (
        listed(lambda t: pa.concat_tables([t.slice(0, 1), t.slice(2)])),
        rf"lr/{EPISODES}, column 'episode_index', row 1: is 2, but .* say 1",
    ),
    "overlap": (
        listed(column("dataset_from_index", 1, 3)),
        rf"lr/{EPISODES}, column 'dataset_from_index', row 1: is 3, but .* say 4",
    ),
    "gap": (listed(column("dataset_from_index", 2, 10)), r"column 'dataset_from_index', row 2: is 10, but .* say 9"),
    "decreasing": (listed(column("dataset_to_index", 2, 9)), r"to_index', row 2: is 9; no episode may be empty"),
    "wrong length of episode": (
        listed(column("length", 1, 6)),
        r"column 'length', row 1: is 6, but .* say 5",
    ),
    "episodes shifted": (
        listed(
            column("dataset_to_index", 0, 5),
            column("dataset_from_index", 1, 5),
            column("length", 0, 5),
            column("length", 1, 4),
            column(f"{key}/to_timestamp", 0, 0.5),
            column(f"{key}/from_timestamp", 1, 0.5),
        ),
        rf"lr/{DATA}, column 'episode_index', row 4: is 1, but .* say 0",
    ),
    "null in episodes": (
        listed(column("length", 1, None)),
        rf"lr/{EPISODES}, column 'length', row 1: is empty",
    ),
    "column missing in episodes": (
        listed(lambda t: t.drop_columns(["length"])),
        rf"lr/{EPISODES}: 'length' is missing",
    ),
    "total": (info(lambda i: i.update(total_frames=21)), r"info.json: total_frames is 21, but meta/episodes lists 20"),
    "missing video": (gone(VIDEO), rf"lr/{VIDEO} is missing; it is the video of 'observation.images.top' of episode 0"),
    "truncated video": (cut(VIDEO), rf"lr/{VIDEO}: not a readable video .* it may be cut short"),
    "short video": (other_video(frames=15), rf"lr/{VIDEO}: has only 15 frames; episode 2 needs frame 15"),
    "rate of video": (other_video(fps=20), rf"lr/{VIDEO}: has 20 frames a second, but the data set says 10"),
    "size of video": (other_video(width=32), rf"lr/{VIDEO}: has 16 x 32 pixels, but the feature says 16 x 16"),
    "length of video": (
        listed(column(f"{key}/to_timestamp", 0, 0.3)),
        r"to_timestamp', row 0: is 3 frames at 10 a second, but .* say 4",
    ),
    "no picture": (
        picture({"bytes": None, "path": "x.png"}),
        r"column 'observation.images.side', row 6: holds no picture",
    ),
    "broken picture": (picture({"bytes": b"\x89PNG no", "path": None}), r"side', row 6: not a readable picture"),
    "size of picture": (
        picture(png((4, 5, 3))),
        r"side', row 6: a picture of uint8 \(4, 5, 3\); it must be uint8 \(4, 4, 3\)",
    ),
    "grey picture": (picture(png((4, 4))), r"side', row 6: a picture of uint8 \(4, 4, 1\)"),
    "picture of four channels": (
        feature("observation.images.side", shape=[4, 4, 4]),
        r"feature 'observation.images.side' has shape \(4, 4, 4\); pictures need height, width and 1 or 3 channels",
    ),
    "pictures as numbers": (
        data(
            lambda t: t.set_column(
                t.column_names.index("observation.images.side"), "observation.images.side", t["index"]
            )
        ),
        r"column 'observation.images.side': holds int64; pictures must be structs",
    ),
    "no info": (gone("meta/info.json"), r"lr/meta/info.json is missing; the data set is not complete"),
    "truncated info": (cut("meta/info.json"), r"lr/meta/info.json does not hold JSON"),
    "older version": (
        info(lambda i: i.update(codebase_version="v2.1")),
        r"has version v2.1, only v3.0 .* LeRobot's own script",
    ),
    "newer version": (
        info(lambda i: i.update(codebase_version="v4.0")),
        r"has version v4.0, only v3.0 .* newer ilbook",
    ),
    "no features": (info(lambda i: i.pop("features") and None), r"info.json: 'features' is missing"),
    "no shape": (
        info(lambda i: i["features"]["action"].pop("shape") and None),
        r"feature 'action' lacks a dtype or a shape",
    ),
}


def zarray(name: str, **change):
    return lambda root: change_json(root / name / ".zarray", lambda said: said.update(change))


def chunk(name: str, values: np.ndarray):
    """Write the only chunk of an array anew."""

    def spoil(root):
        from numcodecs import get_codec

        said = json.loads((root / name / ".zarray").read_text())
        raw = bytes(get_codec(dict(said["compressor"])).encode(np.ascontiguousarray(values)))
        (root / name / ".".join("0" * len(said["shape"]))).write_bytes(raw)

    return spoil


def with_value(name: str, index: tuple, value) -> np.ndarray:
    array = arrays()[name]
    array[index] = value
    return array


ZARR = {
    "missing chunk": (
        gone("data/action/0.0"),
        r"set.zarr/data/action: chunk 0.0 \(from row 0\) is missing; copy the store again",
    ),
    "truncated chunk": (
        cut("data/action/0.0"),
        r"set.zarr/data/action: chunk 0.0 \(from row 0\) is damaged .* cut short",
    ),
    "nearly empty chunk": (cut("data/action/0.0", 0.05), r"data/action: chunk 0.0 .* is damaged"),
    "chunk of another size": (chunk("data/action", np.zeros((3, 2), np.float32)), r"holds 24 bytes instead of 160"),
    "missing column": (
        lambda root: shutil.rmtree(root / "data/action"),
        r"set.zarr: 'action' is missing; there are state",
    ),
    "no arrays": (lambda root: shutil.rmtree(root / "data"), r"set.zarr: 'action' is missing; there are none"),
    "nan": (chunk("data/state", with_value("state", (13, 2), np.nan)), r"set.zarr/data/state, row 13: holds nan"),
    "wrong dtype": (zarray("data/state", dtype="|S4"), r"set.zarr/data/state holds .S4; only truth values"),
    "unreadable dtype": (zarray("data/state", dtype="nothing"), r"data/state/.zarray: not the description of an array"),
    "wrong shape": (
        zarray("data/state", shape=[19, 5]),
        r"set.zarr/data/state has 19 rows for 20 steps, where the last of episode_ends is; it must be 20",
    ),
    "unknown compressor": (
        zarray("data/state", compressor={"id": "jpegxyz"}),
        r"data/state/.zarray: not the description of an array that can be read .*jpegxyz",
    ),
    "overlap": (
        chunk("meta/episode_ends", np.array([9, 4, 20])),
        r"set.zarr: episode_ends, row 1: 4 is not after 9",
    ),
    "empty episode": (chunk("meta/episode_ends", np.array([4, 4, 20])), r"zarr: episode_ends, row 1: 4 is not after 4"),
    "negative end": (chunk("meta/episode_ends", np.array([-1, 4, 20])), r"episode_ends, row 0: -1 is not after 0"),
    "too short": (
        chunk("meta/episode_ends", np.array([4, 9, 19])),
        r"data/action has 20 rows for 19 steps, where the last of episode_ends is",
    ),
    "ends of floats": (
        lambda root: (
            zarray("meta/episode_ends", dtype="<f8")(root),
            chunk("meta/episode_ends", np.array([4.0, 9, 20]))(root),
        ),
        r"set.zarr: episode_ends must be a list of whole numbers, not float64",
    ),
    "no ends": (
        lambda root: shutil.rmtree(root / "meta/episode_ends"),
        r"set.zarr/meta/episode_ends/.zarray is missing",
    ),
    "truncated description": (cut("data/state/.zarray"), r"data/state/.zarray: not the description"),
    "zarr 3": (
        lambda root: (root / "zarr.json").write_text("{}"),
        r"set.zarr: is zarr format 3; a replay buffer has format 2",
    ),
    "attributes": (cut(".zattrs"), r"set.zarr/.zattrs does not hold JSON"),
}


def hdf5(change):
    def spoil(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return spoil


def replace(name: str, values: np.ndarray):
    def change(file):
        del file[name]
        file[name] = values

    return hdf5(change)


def drop(name: str):
    return hdf5(lambda file: file.pop(name) and None)


HDF5 = {
    "missing column": (
        drop("data/demo_1/obs/state"),
        r"set.hdf5/data/demo_1: 'obs/state' is missing; there are actions",
    ),
    "missing actions": (drop("data/demo_1/actions"), r"set.hdf5/data/demo_1: 'actions' is missing"),
    "missing actions of the first": (drop("data/demo_0/actions"), r"set.hdf5/data/demo_0: 'actions' is missing"),
    "unequal lengths": (
        replace("data/demo_1/obs/state", np.zeros((4, 5), np.float32)),
        r"set.hdf5/data/demo_1/obs/state has 4 rows for 5 actions; it must be 5",
    ),
    "wrong shape": (
        replace("data/demo_1/obs/state", np.zeros((5, 4), np.float32)),
        r"hdf5/data/demo_1/obs/state is float32 of shape \(4,\) at each step, but float32 of \(5,\) in .*/data/demo_0",
    ),
    "wrong dtype": (
        replace("data/demo_2/actions", np.zeros((11, 2))),
        r"data/demo_2/actions is float64 of shape .* but float32",
    ),
    "texts": (
        lambda path: [replace(f"data/demo_{i}/obs/state", np.full(n, b"a"))(path) for i, n in enumerate((4, 5, 11))],
        r"set.hdf5/data/demo_0/obs/state holds .S1; only truth",
    ),
    "nan": (
        replace("data/demo_2/actions", np.full((11, 2), np.inf, np.float32)),
        r"set.hdf5/data/demo_2/actions, row 0: holds inf",
    ),
    "num_samples": (
        hdf5(lambda file: file["data/demo_1"].attrs.__setitem__("num_samples", 9)),
        r"set.hdf5/data/demo_1/actions has 5 rows, but num_samples says 9",
    ),
    "empty demo": (replace("data/demo_1/actions", np.zeros((0, 2), np.float32)), r"demo_1/actions has no rows"),
    "no demos": (
        hdf5(lambda file: [file.pop(f"data/demo_{i}") for i in range(3)] and None),
        r"set.hdf5: has neither data/demo_0",
    ),
    "an array called data": (replace("data", np.zeros((3, 2))), r"set.hdf5: has neither data/demo_0"),
    "truncated": (cut(""), r"set.hdf5: not a readable HDF5 file .* it may be cut short"),
    "only the beginning": (cut("", 0.01), r"set.hdf5: not a readable HDF5 file"),
    "another layout": (
        hdf5(lambda file: (file.move("data", "else"), None)[1]),
        r"set.hdf5: has neither data/demo_0 .* nor episode_0",
    ),
}

MINARI = {
    "observations": (
        replace("episode_1/observations", np.zeros((8, 5), np.float32)),
        r"minari.hdf5/episode_1/observations has 8 rows for 5 actions; it must be 6",
    ),
    "mixed observations": (
        replace("episode_1/observations", np.zeros((5, 5), np.float32)),
        r"minari.hdf5/episode_1/observations has 5 rows for 5 actions; it must be 6",
    ),
    "rewards": (
        replace("episode_1/rewards", np.zeros(6)),
        r"minari.hdf5/episode_1/rewards has 6 rows for 5 actions",
    ),
    "nan": (
        replace("episode_2/observations", np.full((12, 5), np.nan, np.float32)),
        r"episode_2/observations, row 0: holds nan",
    ),
    "truncated": (cut(""), r"minari.hdf5: not a readable HDF5 file"),
}

NATIVE = {
    "missing array": (gone("state.npy"), r"native/state.npy is missing; the data set is not complete"),
    "truncated array": (cut("state.npy"), r"native/state.npy: not a readable .npy .* cut short"),
    "nearly empty array": (cut("state.npy", 0.1), r"native/state.npy: not a readable .npy"),
    "pickle": (
        lambda root: np.save(root / "state.npy", np.array([{}] * 20, dtype=object), allow_pickle=True),
        r"native/state.npy: not a readable .npy",
    ),
    "nan": (
        lambda root: np.save(root / "state.npy", with_value("state", (5, 1), np.nan)),
        r"native: array 'state', row 5: holds nan",
    ),
    "overlap": (
        lambda root: change_json(root / "ilbook.json", lambda said: said.update(episode_ends=[9, 4, 20])),
        r"native: episode_ends, row 1: 4 is not after 9",
    ),
    "short": (
        lambda root: change_json(root / "ilbook.json", lambda said: said.update(episode_ends=[4, 9])),
        r"native: array 'action' has 20 rows for 9 steps, where the last of episode_ends is; it must be 9",
    ),
    "no ends": (
        lambda root: change_json(root / "ilbook.json", lambda said: said.pop("episode_ends") and None),
        r"native/ilbook.json: 'episode_ends', 'meta' or 'arrays' is missing",
    ),
    "no action": (
        lambda root: change_json(root / "ilbook.json", lambda said: said["arrays"].pop("action") and None),
        r"native: 'action' is missing; there are state, top, side",
    ),
    "no schema": (
        lambda root: change_json(root / "ilbook.json", lambda said: said.pop("schema") and None),
        r"native/ilbook.json: has schema None, but this ilbook reads",
    ),
    "truncated header": (cut("ilbook.json"), r"native/ilbook.json does not hold JSON"),
}

TABLES = {"lerobot": LEROBOT, "zarr": ZARR, "hdf5": HDF5, "minari": MINARI, "native": NATIVE}
CASES = [(kind, name) for kind, table in TABLES.items() for name in table]
# What does not fit: refused where it is asked for, else left out and named.
MISFITS = {
    **{("lerobot", name): "side" for name in ("picture of four channels", "pictures as numbers")},
    **{("lerobot", name): "state" for name in ("too few axes", "too many axes")},
    **{("zarr", name): "state" for name in ("wrong dtype", "unreadable dtype", "wrong shape", "unknown compressor")},
    ("zarr", "truncated description"): "state",
    **{("hdf5", name): "state" for name in ("missing column", "unequal lengths", "wrong shape", "texts")},
    **{("minari", name): "obs" for name in ("observations", "mixed observations")},
    ("minari", "rewards"): "reward",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Each kind of data set once; tests spoil copies."""
    return {kind: made(kind, tmp_path_factory.mktemp(kind)) for kind in TABLES}


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind}: {name}" for kind, name in CASES])
def test_bad_data_are_refused_in_one_sentence_and_the_target_is_untouched(sound, tmp_path, kind, name):
    source = tmp_path / sound[kind].name
    shutil.copytree(sound[kind], source) if sound[kind].is_dir() else shutil.copy(sound[kind], source)
    spoil, sentence = TABLES[kind][name]
    spoil(source)
    target = tmp_path / "target"
    native.write(stream.from_arrays({"action": np.zeros((3, 1))}, np.array([3]), {}, "old"), target, as_file=False)
    before = {path: path.read_bytes() for path in target.iterdir()}
    needed = [MISFITS[kind, name]] if (kind, name) in MISFITS else None
    with pytest.raises(UserError, match=sentence) as error:
        formats.import_(source, target, force=True, arrays=needed)
    said = str(error.value)
    assert "\n" not in said and len(said) < 330, said
    assert {path: path.read_bytes() for path in target.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "target"])
    if needed:
        said = formats.import_(source, target, force=True)
        assert needed[0] not in said["arrays"] and re.search(sentence, said["left_out"][needed[0]])


@pytest.mark.parametrize("kind", TABLES)
def test_the_same_data_unspoiled_are_imported(sound, tmp_path, kind):
    assert formats.import_(sound[kind], tmp_path / "target")["steps"] == 20
