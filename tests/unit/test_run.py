import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ilbook import paths, stats
from ilbook.errors import UserError
from ilbook.page import run as profile
from ilbook.page.claims import Claim
from ilbook.page.run import Run

CLAIM = Claim("a-beats-b", "A beats B.", "action-chunking", "a", "b", "success", "higher", 0.1, "Table 1")


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    for name in ("ILBOOK_OUT", "ILBOOK_THREADS", "ILBOOK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


@pytest.fixture(autouse=True)
def threads():
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def episodes(a=0.9, b=0.3, n=40):
    rows = [(policy, 0, i, float(i < rate * n)) for policy, rate in (("a", a), ("b", b)) for i in range(n)]
    return pd.DataFrame(rows, columns=["policy", "train_seed", "start", "success"])


def test_importing_is_light():
    heavy = {"torch", "pandas", "mujoco"}
    code = f"import ilbook.page.run, ilbook.page.claims, sys; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_root_walks_up(repository, monkeypatch):
    monkeypatch.delenv("ILBOOK_ROOT")
    monkeypatch.chdir(repository / "notebooks")
    assert paths.root() == repository


def test_root_refuses_a_wrong_setting(repository, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(repository / "notebooks"))
    with pytest.raises(UserError, match=r"ILBOOK_ROOT=.* holds no notebooks/"):
        paths.root()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("n", "lectur"), "nearest valid name: 'lecture'"),
        (("n", "lecture", -1), "seed -1"),
        (("n", "lecture", 1.5), "seed 1.5"),
        (("n", "lecture", True), "seed True"),
        (("../n",), "notebook id '../n'"),
    ],
)
def test_start_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        Run.start(*arguments)


def test_start_takes_the_runners_settings(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("ILBOOK_THREADS", "1")
    monkeypatch.setenv("ILBOOK_OUT", str(tmp_path / "elsewhere"))
    run = Run.start("n")
    assert (run.threads, torch.get_num_threads(), run.out) == (1, 1, tmp_path / "elsewhere")
    assert run.out.is_dir()


def test_start_refuses_a_wrong_thread_count(monkeypatch):
    monkeypatch.setenv("ILBOOK_THREADS", "two")
    with pytest.raises(UserError, match="ILBOOK_THREADS=two"):
        Run.start("n")


def test_start_seeds_the_global_generators():
    import torch

    def draw(seed):
        Run.start("n", seed=seed)
        return np.random.rand(), float(torch.rand(()))

    first = draw(1)
    assert draw(1) == first
    assert draw(2) != first


def test_smoke_says_so(capsys):
    Run.start("n", "smoke")
    assert "no claim is evaluated" in capsys.readouterr().out
    Run.start("n", "lecture")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "value"), [("smoke", 1), ("lecture", 2), ("full", 3)])
def test_pick(name, value):
    assert Run.start("n", name).pick(smoke=1, lecture=2, full=3) == value


def test_streams_are_reproducible_and_apart():
    def first(seed, *stream):
        return Run.start("n", seed=seed).rng(*stream).integers(2**62)

    streams = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a", 0), ("a", 1), (0,), (0, 0), (1,)]
    draws = [first(0, *stream) for stream in streams] + [first(1, "a")]
    assert len(set(draws)) == len(draws)
    assert first(0, "a", 1) == first(0, "a", 1)


@pytest.mark.parametrize("part", [-1, 0.5, None, True])
def test_a_stream_has_a_name(part):
    with pytest.raises(UserError, match="rng stream part"):
        Run.start("n").rng(part)


def test_training_seeds_extend_and_are_not_shared():
    assert Run.start("n").seeds(5)[:3] == Run.start("n").seeds(3)
    every = [seed for run in range(4) for seed in Run.start("n", seed=run).seeds(50)]
    assert len(set(every)) == 200
    with pytest.raises(UserError, match="0 training seeds"):
        Run.start("n").seeds(0)


def test_judge_the_three_verdicts():
    run = Run.start("n")
    run.declare(CLAIM)
    assert run.judge("a-beats-b", episodes()).verdict == "supported"
    assert run.judge("a-beats-b", episodes(a=0.3)).verdict == "contradicted"
    assert run.judge("a-beats-b", episodes(a=0.4)).verdict == "inconclusive"


def test_judge_in_smoke_computes_but_does_not_evaluate():
    run = Run.start("n", "smoke")
    run.declare(CLAIM)
    verdict = run.judge("a-beats-b", episodes(n=2))
    assert verdict.verdict == "not evaluated"
    assert verdict.estimate.n == 2
    with pytest.raises(UserError, match="unknown table column 'success'"):
        run.judge("a-beats-b", episodes().drop(columns="success"))


def test_less_is_better_turns_the_sign():
    run = Run.start("n")
    run.declare(Claim("short", "A is quick.", "m", "a", "b", "length", "lower", 1.0, "s"))
    verdict = run.judge("short", stats.Estimate(-3.0, -4.0, -2.0, 10, 1, "given"))
    assert (verdict.estimate.effect, verdict.estimate.low, verdict.estimate.high) == (3.0, 2.0, 4.0)
    assert verdict.verdict == "supported"


def test_one_rate_against_a_minimum():
    run = Run.start("n")
    run.declare(Claim("good", "A succeeds.", "m", "a", None, "success", "higher", 0.5, "s"))
    assert run.judge("good", episodes()).verdict == "supported"
    run.declare(Claim("safe", "A seldom hits.", "m", "a", None, "success", "lower", -0.2, "s"))
    assert run.judge("safe", episodes(a=0.02, n=100)).verdict == "supported"


def test_judge_an_undeclared_claim():
    run = Run.start("n")
    run.declare(CLAIM)
    with pytest.raises(UserError, match="nearest valid name: 'a-beats-b'"):
        run.judge("a-beats-c", episodes())


def test_finish_refuses_a_claim_without_verdict():
    run = Run.start("n")
    run.declare(CLAIM)
    with pytest.raises(UserError, match="never judged a-beats-b"):
        run.finish()
    assert not (run.out / "result.json").exists()


def test_declaring_again_forgets_the_verdict():
    run = Run.start("n")
    run.declare(CLAIM)
    run.judge("a-beats-b", episodes())
    run.declare(CLAIM)
    with pytest.raises(UserError, match="never judged"):
        run.finish()


def test_finish_writes_a_result_that_the_seed_determines(monkeypatch):
    def once(out):
        monkeypatch.setenv("ILBOOK_OUT", str(out))
        run = Run.start("n", seed=4)
        run.declare(CLAIM)
        run.judge("a-beats-b", episodes())
        run.table("rates", episodes().groupby("policy", as_index=False)["success"].mean())
        run.finish()
        return (run.out / "result.json").read_bytes()

    first = once(paths.root() / "one")
    assert once(paths.root() / "two") == first
    result = json.loads(first)
    assert (result["notebook"], result["profile"], result["seed"], result["token"]) == ("n", "lecture", 4, None)
    assert result["tables"]["rates"] == [{"policy": "a", "success": 0.9}, {"policy": "b", "success": 0.3}]
    claim = result["claims"][0]
    assert claim["method"] == "action-chunking" and "bootstrap" in claim["interval"]
    assert {"verdict", "effect", "low", "high", "n", "seeds", "minimum"} <= claim.keys()
    provenance = json.loads((paths.root() / "two" / "provenance.json").read_text())
    assert {"time", "parts", "commit", "versions", "machine", "threads", "device", "gl"} <= provenance.keys()
    assert str(paths.root()) not in json.dumps(provenance)


def test_finish_hands_back_the_runners_token(monkeypatch):
    monkeypatch.setenv("ILBOOK_TOKEN", "abc")
    run = Run.start("n")
    run.finish()
    assert json.loads((run.out / "result.json").read_text())["token"] == "abc"


def test_tables_hold_plain_values():
    run = Run.start("n")
    run.table("t", [{"x": np.float32(0.5), "y": float("nan"), "z": pd.NaT, "w": np.bool_(True), "v": None}])
    run.finish()
    table = json.loads((run.out / "result.json").read_text())["tables"]["t"]
    assert table == [{"x": 0.5, "y": None, "z": None, "w": True, "v": None}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"x": np.zeros(3)}], "a ndarray; keep finite numbers"),
        ([{"x": np.inf}], "holds inf; keep finite numbers"),
        ([{"x": 1}] * 1001, "1001 rows"),
    ],
)
def test_tables_refuse(rows, message):
    with pytest.raises(UserError, match=message):
        Run.start("n").table("t", rows)


def test_write_file_leaves_the_old_content_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "a" / "b.json"
    profile.write_file(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device; free some space"):
        profile.write_file(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["b.json"]


@pytest.mark.parametrize("number", [1, 13, 28, 30])
def test_a_clean_up_that_fails_too_does_not_hide_the_error(tmp_path, monkeypatch, number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    for name in ("write_bytes", "unlink"):
        monkeypatch.setattr(f"pathlib.Path.{name}", refused)
    with pytest.raises(UserError, match=f"cannot write .*{os.strerror(number)}"):
        profile.write_file(tmp_path / "b.json", "new")
