"""The shipped demonstrations, their manifest, and what happens to damaged files."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ilbook import data, experts, tasks, used
from ilbook.data import files, manifest
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.paths import root
from ilbook.press import demos as make
from ilbook.rollout.record import demonstrate
from ilbook.tasks.avoid import N_MODES, Avoid
from ilbook.tasks.pusht import PushT, overlap

COLUMNS = {"state": 4, "action": 2}


def episodes() -> Episodes:
    rng = np.random.default_rng(0)
    arrays = {"state": rng.random((9, 4)).astype(np.float32), "action": rng.random((9, 2)).astype(np.float32)}
    return Episodes(arrays, np.array([4, 9]), {"note": "for a test"})


def test_manifest_agrees_with_the_files():
    assert manifest.check() == sorted(make.RECIPES), "each recipe is shipped"
    assert sum(entry["bytes"] for entry in manifest.entries().values()) < 15_000_000
    files_of = [root() / "data" / "demos" / folder for folder in ("avoid", "insert", "pickplace", "pusht")]
    assert all(file.stat().st_size < 2_000_000 for folder in files_of for file in folder.iterdir())


@pytest.mark.parametrize("name", list(make.RECIPES))
def test_shipped_demonstrations(name):
    entry = manifest.entries()[name]
    demos, task = data.load(name, pictures=False), tasks.get(entry["task"])
    assert (len(demos), demos.n_steps) == (entry["episodes"], entry["steps"])
    assert len(demos) == make.RECIPES[name].n
    assert demos["obs"].shape == (demos.n_steps, len(task.obs_names))
    assert demos["obs"].dtype == demos["action"].dtype == np.float32
    lead = np.linalg.norm((demos["action"] - demos["state"][:, -demos["action"].shape[1] :]) * task.weight, axis=1)
    # Recorded targets stay within what the rate limit lets the servo reach, give or take a slip of the hand.
    assert np.quantile(lead, 0.99) < 1.5 * task.max_speed / task.control_hz


def test_pusht_demonstrations_are_of_human_speed_and_succeed():
    demos = data.load("pusht")
    assert 100 < np.median(demos.lengths) < 190  # people need about 125 steps at 10 Hz
    last = demos["state"][demos.episode_ends - 1, 2:5].astype(np.float64)
    # The step that completes an episode comes after its last recorded state.
    assert (overlap(last) > 0.5).all() and np.median(overlap(last)) > 0.85


def test_avoid_demonstrations_cover_all_ways_evenly():
    demos = data.load("avoid")
    sim = Avoid().batch(len(demos))
    sim.reset(np.stack([episode["state"][0] for episode in demos]).astype(np.float64))
    longest = demos.lengths.max()
    for t in range(longest + 40):  # executing the recorded targets again follows the recorded path closely
        action = np.stack([episode["action"][min(t, len(episode["action"]) - 1)] for episode in demos])
        sim.step(action.astype(np.float64))
    counts = np.bincount(sim.info()["mode"][sim.success], minlength=N_MODES)
    assert sim.success.mean() > 0.8 and counts.min() >= 5 and counts.max() <= 10


@pytest.mark.parametrize("task", [Avoid, PushT])
def test_demonstrations_follow_from_their_seed(task):
    expert = experts.get(task.name)
    one, two, other = (demonstrate(expert, 3, seed) for seed in (5, 5, 6))
    assert np.array_equal(one["state"], two["state"]) and np.array_equal(one["action"], two["action"])
    assert one["state"].shape != other["state"].shape or not np.array_equal(one["state"], other["state"])
    assert one["state"].shape[1] == len(task.state_names)


def test_the_shipped_files_can_be_made_again(tmp_path):
    """The first demonstrations made now are those in the file; a batch's size does not change its members."""
    for name in ("avoid", "insert_50", "pickplace", "pusht"):
        expert = experts.get(manifest.entries()[name]["task"])
        shipped = data.load(name)
        again = tmp_path / f"{name}.npz"
        files.save(again, demonstrate(expert, 4, manifest.entries()[name]["seed"]))
        few = files.read(again)
        assert np.array_equal(few["state"], shipped["state"][: few.n_steps])
        assert np.array_equal(few["action"], shipped["action"][: few.n_steps])


def test_save_and_read_are_exact_after_rounding(tmp_path):
    files.save(tmp_path / "a.npz", episodes())
    once = files.read(tmp_path / "a.npz", COLUMNS)
    assert np.abs(once["state"] - episodes()["state"]).max() <= files.RESOLUTION / 2
    files.save(tmp_path / "b.npz", once)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert once.meta == {"note": "for a test"}


def test_damaged_files_are_refused(tmp_path):
    whole = tmp_path / "whole.npz"
    files.save(whole, episodes())
    for share in (0.3, 0.9):
        cut = tmp_path / "cut.npz"
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(UserError, match=r"cut\.npz: not a readable"):
            files.read(cut)
    with pytest.raises(UserError, match="ilbook data make none"):
        files.read(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.pop("state"), "'state' is missing"),
        (lambda a: a.pop("episode_ends"), "'episode_ends' is missing"),
        (lambda a: a.update(state=a["state"][:, :3]), "array 'state' is float32 of shape .9, 3.; it must be"),
        (lambda a: a.update(action=a["action"].astype(np.float64)), "array 'action' is float64"),
        (lambda a: a.update(action=a["action"][:-1]), "array 'action' has 8 steps, but the last episode ends at 9"),
        (lambda a: a["state"].__setitem__((3, 1), np.nan), r"array 'state' holds nan at index \(3, 1\)"),
        (lambda a: a.update(episode_ends=np.array([5, 5, 9])), r"episode_ends\[1\] is 5, not after 5"),
        (lambda a: a.update(meta=np.array("{")), "'meta' does not hold JSON"),
    ],
)
def test_wrong_contents_are_refused_with_file_array_and_index(tmp_path, change, sentence):
    arrays = {**episodes().arrays, "episode_ends": np.array([4, 9]), "meta": np.array("{}")}
    arrays["state"] = arrays["state"].copy()
    change(arrays)
    np.savez_compressed(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=rf"bad\.npz: .*{sentence}"):
        files.read(tmp_path / "bad.npz", COLUMNS)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "bad.npz", state=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"not a readable .npz of plain arrays"):
        files.read(tmp_path / "bad.npz")


def test_making_demonstrations_checks_its_arguments(tmp_path):
    with pytest.raises(UserError, match="nearest valid name: 'pusht'"):
        make.make("pushti")
    with pytest.raises(UserError, match="cannot make 0 demonstrations"):
        make.make("avoid", out=tmp_path / "a.npz", n=0)
    with pytest.raises(UserError, match=r"name it a.npz"):
        make.make("avoid", out=tmp_path / "a.zip", n=2)
    assert not list(tmp_path.iterdir())
    path = make.make("avoid", out=tmp_path / "a.npz", n=2, seed=3)
    assert len(files.read(path, COLUMNS)) == 2


def test_unknown_data_set():
    with pytest.raises(UserError, match="unknown data set 'pust'; nearest valid name: 'pusht'"):
        data.load("pust")


def test_loading_announces_the_data_and_windows_bring_neither_simulator_nor_file_readers():
    with used.collected() as parts:
        data.load("avoid")
    assert "data:avoid" in parts
    code = (
        "import sys, ilbook.data as d; d.Episodes, d.Windows;"
        "print([m for m in sys.modules if m in ('mujoco', 'ilbook.data.files', 'ilbook.data.manifest')]);"
        "from ilbook.data import load; print(load.__module__, 'mujoco' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["[]", "ilbook.data.manifest False"], done.stdout + done.stderr
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = data.laod


def test_a_changed_file_is_noticed(tmp_path, monkeypatch):
    listed = manifest.entries()
    shutil.copytree(root() / "data" / "demos", tmp_path / "data" / "demos")
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(listed))
    monkeypatch.setattr(manifest, "root", lambda: tmp_path)
    assert manifest.check() == list(listed)
    for changed in ("avoid/avoid.npz", "pickplace/pickplace_pixels_03.mp4"):
        path = tmp_path / "data" / "demos" / changed
        before = path.read_bytes()
        path.write_bytes(before + b"x")
        with pytest.raises(UserError, match=rf"{path.name} is not the file that the manifest lists"):
            manifest.check()
        path.write_bytes(before)


def test_pictures_of_a_set_show_its_states():
    """The films are small, so they differ from what is drawn by a few grey levels, and no more."""
    demos = data.load("pickplace_pixels")
    assert demos["image"].shape == (demos.n_steps, 96, 96, 3) and demos["image"].dtype == np.uint8
    rows = np.linspace(0, demos.n_steps - 1, 40).astype(int)
    drawn = tasks.get("pickplace")().render(demos["state"][rows].astype(np.float64), 96)
    off = np.abs(demos["image"][rows].astype(int) - drawn.astype(int)).mean(axis=(1, 2, 3))
    assert off.max() < 4
