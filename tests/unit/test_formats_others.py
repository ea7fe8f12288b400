"""Replay buffers (zarr), HDF5 of robomimic and Minari, and data larger than memory."""

import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pytest
from numcodecs import get_codec

from ilbook import formats
from ilbook.data import files
from ilbook.errors import UserError
from ilbook.formats import native, replay, stream

ENDS = np.array([4, 9, 20])


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "state": rng.standard_normal((20, 5)).astype(np.float32),
        "action": rng.standard_normal((20, 2)).astype(np.float32),
        "reward": rng.standard_normal(20).astype(np.float32),
    }


def store(folder, content=None, **meta):
    native.write(stream.from_arrays(content or arrays(), ENDS, meta, "made"), folder, as_file=False)
    return folder


def back(source, target, **options):
    formats.import_(source, target, **options)
    return files.read(target)


# --- zarr ---


def array_v2(folder, values: np.ndarray, chunks: tuple, order="C", separator=".", filters=None, codec="zstd", **said):
    """An array as other writers may store it: by hand, from the specification."""
    folder.mkdir(parents=True)
    compressor = {"zstd": {"id": "zstd", "level": 1}, "none": None, "blosc": dict(replay.COMPRESSOR)}[codec]
    description = {
        "zarr_format": 2, "shape": list(values.shape), "chunks": list(chunks), "dtype": values.dtype.str,
        "compressor": compressor, "fill_value": 0, "order": order, "filters": filters, "dimension_separator": separator,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps({**description, **said}))
    grid = [range(-(-size // chunk)) for size, chunk in zip(values.shape, chunks, strict=True)]
    for place in np.ndindex(*(len(axis) for axis in grid)):
        whole = np.zeros(chunks, values.dtype)
        box = tuple(slice(at * chunk, (at + 1) * chunk) for at, chunk in zip(place, chunks, strict=True))
        part = values[box]
        whole[tuple(slice(size) for size in part.shape)] = part
        raw = whole.tobytes(order=order)
        for codec_said in [*(filters or []), *([compressor] if compressor else [])]:
            raw = bytes(get_codec(dict(codec_said)).encode(np.frombuffer(raw, values.dtype)))
        target = folder / separator.join(map(str, place))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(raw)


@pytest.mark.parametrize(
    ("chunks", "options"),
    [
        ((3, 2), {}),
        ((20, 5), {"codec": "none"}),
        ((64, 5), {"codec": "blosc"}),
        ((7, 2), {"order": "F"}),
        ((6, 5), {"separator": "/"}),
        ((5, 4), {"filters": [{"id": "shuffle", "elementsize": 4}]}),
    ],
)
def test_chunks_of_any_kind_are_read(tmp_path, chunks, options):
    content = arrays()
    array_v2(tmp_path / "a.zarr" / "data" / "state", content["state"], chunks, **options)
    array_v2(tmp_path / "a.zarr" / "data" / "action", content["action"].astype(">f4"), (9, 2))
    array_v2(tmp_path / "a.zarr" / "meta" / "episode_ends", ENDS, (2,))
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    found = back(tmp_path / "a.zarr", tmp_path / "folder")
    assert np.array_equal(found["state"], content["state"]) and found.episode_ends.tolist() == ENDS.tolist()
    assert np.array_equal(found["action"], content["action"]) and found["action"].dtype == np.float32


def test_a_store_packed_into_one_file_is_read(tmp_path):
    formats.export(store(tmp_path / "source", fps=10), tmp_path / "a.zarr", "zarr")
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as packed:
        for path in sorted((tmp_path / "a.zarr").rglob("*")):
            packed.write(path, path.relative_to(tmp_path / "a.zarr").as_posix())
    found = back(tmp_path / "a.zarr.zip", tmp_path / "back.npz")
    assert all(np.array_equal(found[name], array) for name, array in arrays().items()) and found.meta["fps"] == 10
    (tmp_path / "cut.zarr.zip").write_bytes((tmp_path / "a.zarr.zip").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut.zarr.zip: not a readable .zip"):
        formats.import_(tmp_path / "cut.zarr.zip", tmp_path / "x")


def test_a_zip_may_have_any_name_and_the_store_in_a_folder(tmp_path):
    formats.export(store(tmp_path / "source"), tmp_path / "a.zarr", "zarr")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as packed:
        for path in sorted((tmp_path / "a.zarr").rglob("*")):
            packed.write(path, path.relative_to(tmp_path).as_posix())
    found = back(tmp_path / "some.zip", tmp_path / "back")
    assert all(np.array_equal(found[name], array) for name, array in arrays().items())
    with zipfile.ZipFile(tmp_path / "letters.zip", "w") as packed:
        packed.writestr("dear.txt", "dear")
    with pytest.raises(UserError, match=r"letters.zip is not a data set, so --force does not replace it"):
        formats.export(tmp_path / "source", tmp_path / "letters.zip", "zarr", force=True)


def test_nested_groups_are_read_and_absent_chunks_are_their_fill_value(tmp_path):
    content = arrays()
    array_v2(tmp_path / "a.zarr" / "data" / "obs" / "arm" / "state", content["state"], (7, 5))
    array_v2(tmp_path / "a.zarr" / "data" / "action", content["action"], (9, 2))
    array_v2(tmp_path / "a.zarr" / "data" / "reward", content["reward"], (7,), fill_value=0.5)
    array_v2(tmp_path / "a.zarr" / "meta" / "episode_ends", ENDS, (2,))
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "a.zarr" / "data" / "reward" / "1").unlink()
    found = back(tmp_path / "a.zarr", tmp_path / "folder")
    assert np.array_equal(found["obs.arm.state"], content["state"])
    assert (found["reward"][7:14] == 0.5).all() and np.array_equal(found["reward"][14:], content["reward"][14:])


def test_the_zarr_library_reads_what_we_export(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    formats.export(store(tmp_path / "source"), tmp_path / "a.zarr", "zarr")
    opened = zarr.open(str(tmp_path / "a.zarr"), mode="r")
    for name, array in arrays().items():
        assert np.array_equal(opened[f"data/{name}"][:], array) and opened[f"data/{name}"].dtype == array.dtype
    assert opened["meta/episode_ends"][:].tolist() == ENDS.tolist()


# --- HDF5 ---


def test_robomimic_files_have_their_layout_and_come_back(tmp_path):
    content = {**arrays(), "done": np.isin(np.arange(20), ENDS - 1), "eye": np.zeros((20, 4, 4, 3), np.uint8)}
    arguments = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
    source = store(tmp_path / "source", content, env_args=arguments)
    formats.export(source, tmp_path / "demo.hdf5", "hdf5")
    with h5py.File(tmp_path / "demo.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2"]
        assert sorted(file["data/demo_1"]) == ["actions", "dones", "obs", "rewards", "states"]
        assert file["data"].attrs["env_args"] == arguments and file["data"].attrs["total"] == 20
        assert [file[f"data/demo_{i}"].attrs["num_samples"] for i in range(3)] == [4, 5, 11]
        assert np.array_equal(file["data/demo_1/actions"][:], content["action"][4:9])
    found = back(tmp_path / "demo.hdf5", tmp_path / "back")
    assert all(np.array_equal(found[name], array) for name, array in content.items())
    assert found.meta["env_args"] == arguments


def test_files_of_robomimic_itself_are_read(tmp_path):
    """Demos in the order of their numbers, gaps allowed; next_obs only if asked for; obs/actions does not clash."""
    with h5py.File(tmp_path / "demo.h5", "w") as file:
        for number, length in ((10, 3), (2, 4)):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = np.full((length, 7), float(number))
            for group in ("obs", "next_obs"):
                demo[f"{group}/robot0_eef_pos"] = np.full((length, 3), number + (group == "next_obs"))
            demo["obs/action"] = np.zeros((length, 1))
            demo["states"] = np.zeros((length, 9))
        file["data"].attrs["env_args"] = "{}"
    found = back(tmp_path / "demo.h5", tmp_path / "back")
    assert set(found.arrays) == {"action", "robot0_eef_pos", "obs.action", "state"}
    assert found.episode_ends.tolist() == [4, 7] and found["action"][:, 0].tolist() == [2.0] * 4 + [10.0] * 3
    assert found["action"].dtype == np.float64 and found["action"].shape == (7, 7)
    more = back(tmp_path / "demo.h5", tmp_path / "more.npz", arrays=["next_obs.robot0_eef_pos"])
    assert set(more.arrays) == {"action", "next_obs.robot0_eef_pos"}
    assert more["next_obs.robot0_eef_pos"][:, 0].tolist() == [3.0] * 4 + [11.0] * 3


def test_a_state_alone_is_what_robomimic_observes(tmp_path):
    formats.export(store(tmp_path / "source", arrays=None), tmp_path / "a.hdf5", "hdf5", arrays=["state"])
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert sorted(file["data/demo_0"]) == ["actions", "obs"] and list(file["data/demo_0/obs"]) == ["state"]
    assert np.array_equal(back(tmp_path / "a.hdf5", tmp_path / "back")["state"], arrays()["state"])


def test_minari_files_are_read_without_the_last_observation(tmp_path):
    (tmp_path / "door" / "data").mkdir(parents=True)
    with h5py.File(tmp_path / "door" / "data" / "main_data.hdf5", "w") as file:
        for episode, length in enumerate((3, 2)):
            group = file.create_group(f"episode_{episode}")
            group["observations/hand"] = np.arange(length + 1, dtype=np.float32)[:, None]
            group["observations/eyes/left"] = np.zeros((length + 1, 4, 4, 3), np.uint8)
            group["actions"] = np.zeros((length, 2), np.float32)
            group["rewards"], group["truncations"] = np.ones(length), np.zeros(length, bool)
            group["terminations"] = np.arange(length) == length - 1
            group["infos/qpos"] = np.zeros((length + 1, 2))
    found = back(tmp_path / "door", tmp_path / "back")
    assert set(found.arrays) == {"hand", "eyes.left", "action", "reward", "terminated", "truncated"}
    assert found["hand"][:, 0].tolist() == [0, 1, 2, 0, 1] and found.episode_ends.tolist() == [3, 5]
    assert found["terminated"].tolist() == [False, False, True, False, True]


# --- larger than memory ---

WIDTH = 512


def large(n_episodes: int, length: int = 1024) -> stream.Stream:
    """2 MiB of float32 an episode, which never exist at once."""
    columns = {"action": stream.Column(np.dtype(np.float32), (WIDTH,))}
    ends = np.arange(1, n_episodes + 1) * length

    def blocks():
        rows = stream.rows_of(columns)
        for start in range(0, int(ends[-1]), rows):
            episode, stop = start // length, start + rows
            values = np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], WIDTH, axis=1)
            yield stream.Block(episode, start, {"action": values})

    return stream.Stream(columns, ends, {"fps": 10}, blocks)


@pytest.mark.parametrize("format", ["lerobot", "zarr", "hdf5", "native"])
def test_data_several_times_larger_than_the_memory_in_use_are_converted(tmp_path, format, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_BYTES", 2**20)
    n_episodes = 56 if format == "native" else 16  # numpy packs 16 MiB at a time
    total = n_episodes * 1024 * WIDTH * 4
    native.write(large(n_episodes), tmp_path / "source", as_file=False)
    assert (tmp_path / "source" / "action.npy").stat().st_size > total
    if format != "native":  # the libraries themselves take memory when they are imported first
        formats.export(store(tmp_path / "small", fps=10), tmp_path / "warm", format)
    pool, before = pa.default_memory_pool(), pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        if format == "native":
            formats.import_(tmp_path / "source", tmp_path / "there.npz")
        else:
            formats.export(tmp_path / "source", tmp_path / "there", format)
            formats.import_(tmp_path / "there", tmp_path / "back")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < total / 2.5, f"{peak / 2**20:.1f} MiB for {total / 2**20:.0f} MiB of data"
    if format == "lerobot" and pool.max_memory():
        assert pool.max_memory() - before < total / 2
    found = files.read(tmp_path / ("there.npz" if format == "native" else "back"))
    assert np.array_equal(found["action"][:, ::73], np.arange(found.n_steps)[:, None].repeat(8, axis=1))
