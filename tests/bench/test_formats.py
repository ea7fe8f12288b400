"""How long it takes to get data in and out."""

import time

import numpy as np
import pytest

from ilbook import data, formats
from ilbook.data import files
from ilbook.formats import human

pytestmark = pytest.mark.bench

IMPORT_S, EXPORT_S = 3.0, 5.0
ATTEMPTS = 3  # a machine that is busy for a while does not decide


def fastest(run, limit: float, what: str) -> float:
    """Seconds of the fastest attempt; stops as soon as one is below the limit."""
    took = []
    for attempt in range(ATTEMPTS):
        start = time.perf_counter()
        run(attempt)
        took.append(time.perf_counter() - start)
        print(f"{what}: {took[-1]:.2f} s (at most {limit})", flush=True)
        if took[-1] < limit:
            break
    return min(took)


def test_human_pusht_is_imported_quickly(tmp_path):
    source = human.find()
    if source is None:
        pytest.skip("the human PushT data are not here; ILBOOK_HUMAN_PUSHT can name the zarr folder")
    arrays = ["state", "action", "keypoint", "n_contacts"]  # all but the pictures

    def run(attempt):
        formats.import_(source, tmp_path / f"{attempt}.npz", arrays=arrays)

    assert fastest(run, IMPORT_S, "import of 206 human episodes") < IMPORT_S
    assert files.read(tmp_path / "0.npz").n_steps == 25_650


def test_200_episodes_are_exported_to_lerobot_quickly(tmp_path):
    files.save(tmp_path / "some.npz", data.load("pusht").select(range(200)))

    def run(attempt):
        formats.export(tmp_path / "some.npz", tmp_path / f"lr{attempt}", "lerobot", fps=10)

    assert fastest(run, EXPORT_S, "export of 200 PushT episodes") < EXPORT_S
    formats.import_(tmp_path / "lr0", tmp_path / "back")
    assert np.array_equal(files.read(tmp_path / "back")["state"], files.read(tmp_path / "some.npz")["state"])
