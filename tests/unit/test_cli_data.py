"""The commands `ilbook data ...`, on small sets."""

import json

import h5py
import numpy as np
import pytest

from ilbook import data
from ilbook.data import files
from ilbook.data.episodes import Episodes
from ilbook.press import cli


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder to work in with two episodes in small.npz."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {"state": rng.random((9, 4)).astype(np.float32), "action": rng.random((9, 2)).astype(np.float32)}
    files.save(tmp_path / "small.npz", Episodes(arrays, np.array([4, 9]), {"note": "for a test"}))
    return tmp_path


@pytest.mark.parametrize("name", ["lerobot", "zarr", "hdf5"])
def test_there_and_back(small, capsys, name):
    assert cli.main(["data", "export", "small.npz", "away", "--format", name, "--fps", "10"]) == 0
    assert cli.main(["data", "import", "away", "back.npz", "--json"]) == 0
    out = capsys.readouterr().out
    row = json.loads(out[out.index("{") :])
    assert (row["written"], row["episodes"], row["steps"]) == ("back.npz", 2, 9)
    before, after = files.read(small / "small.npz"), files.read(small / "back.npz")
    assert all(np.array_equal(before[key], after[key]) for key in ("state", "action"))


def test_a_shipped_set_is_exported_by_its_name(small, capsys):
    words = ["data", "export", "avoid", "avoid_lerobot", "--format", "lerobot"]
    assert cli.main([*words, "--arrays", "state", "action"]) == 0
    assert "240 episodes" in capsys.readouterr().out
    assert cli.main(["data", "import", "avoid_lerobot", "again.npz"]) == 0
    again = files.read(small / "again.npz")
    assert np.array_equal(again["state"], data.load("avoid")["state"]) and "obs" not in again.arrays


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "small.npz", "x", "--format", "parquet"], "unknown format 'parquet'; nearest valid name"),
        (["export", "smal.npz", "x", "--format", "zarr"], "did you mean small.npz?"),
        (["export", "small.npz", "x"], "--format"),
        (["import", "none", "x.npz"], "there is no none"),
        (["import", "small.npz", "small.npz"], "small.npz"),
        (["describe", "avoit"], "unknown data set 'avoit'; nearest valid name: 'avoid'"),
        (["learn", "avoit"], "unknown data set 'avoit'; nearest valid name: 'avoid'"),
        (["make", "avoit"], "unknown data set 'avoit'; nearest valid name: 'avoid'"),
    ],
)
def test_wrong_input_gets_one_sentence_and_leaves_nothing(small, capsys, words, sentence):
    assert cli.main(["data", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("ilbook: ") and err.count("\n") == 1 and sentence in err
    assert [path.name for path in small.iterdir()] == ["small.npz"]


def test_what_does_not_fit_is_named_and_refused_if_it_is_asked_for(small, capsys):
    with h5py.File("demo.hdf5", "w") as file:
        for number in range(2):
            file[f"data/demo_{number}/actions"] = np.zeros((3, 2))
            file[f"data/demo_{number}/start"] = np.zeros((1, 9))
    assert cli.main(["data", "import", "demo.hdf5", "one.npz"]) == 0
    assert "left out: start (demo.hdf5/data/demo_0/start has 1 rows for 3 actions" in capsys.readouterr().out
    assert cli.main(["data", "import", "demo.hdf5", "two.npz", "--arrays", "start"]) == 2
    assert "demo_0/start has 1 rows for 3 actions" in capsys.readouterr().err and not (small / "two.npz").exists()


def test_an_existing_target_needs_force(small, capsys):
    words = ["data", "export", "small.npz", "away", "--format", "zarr", "--fps", "10"]
    assert cli.main(words) == 0
    assert cli.main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.main([*words, "--force"]) == 0


def test_describe_shows_a_line_for_each_set(capsys):
    assert cli.main(["data", "describe", "avoid"]) == 0
    head, _, line = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:4] == ["data", "set", "episodes", "steps"] and line.split()[:2] == ["avoid", "240"]
