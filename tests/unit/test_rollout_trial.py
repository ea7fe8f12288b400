"""Several policies on the same starts: batches, stop and resume, blind trials, films."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

import ilbook
from ilbook.control.receding import RecedingHorizon
from ilbook.data.windows import Windows
from ilbook.errors import UserError
from ilbook.page import media
from ilbook.page.claims import Claim
from ilbook.page.run import Run
from ilbook.policies.bc import MLPPolicy
from ilbook.rollout import compare as trial
from ilbook.rollout import store as trial_store
from ilbook.rollout.compare import Blind, compare, gather
from ilbook.rollout.evaluate import evaluate
from ilbook.tasks.avoid import Avoid

STARTS = [11, 4, 7, 5, 9]


class Onward:
    """Goes up and, by `aside`, to the right."""

    def __init__(self, aside: float = 0.0):
        self.aside = aside

    def reset(self):
        self.step = 0

    def act(self, obs):
        self.step += 1
        return obs[:, :2] + [self.aside, 0.02]


def pure(table):
    return table.drop(columns="wall_seconds")


def chunks():
    torch.manual_seed(0)
    policy = MLPPolicy(4, 2, Windows(1, 4), 64, 2, (0, 1))
    return RecedingHorizon(policy.eval(), 3)


def test_every_policy_meets_the_same_starts():
    result = compare(Avoid, {"up": Onward(), "aside": Onward(0.01)}, STARTS)
    assert result.table["start"].tolist() == STARTS * 2
    assert result.table["policy"].tolist() == ["up"] * 5 + ["aside"] * 5
    alone = evaluate(Avoid, Onward(0.01), STARTS, "aside")
    assert_frame_equal(pure(result.table)[5:].reset_index(drop=True), pure(alone.table))
    for ours, theirs in zip(result.states["aside", 0], alone.states, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("make", [Onward, chunks], ids=["rule", "network"])
@pytest.mark.parametrize("batch", [1, 2, 4, 99])
def test_the_split_into_batches_changes_nothing(make, batch):
    whole = compare(Avoid, {"a": make()}, STARTS)
    split = compare(Avoid, {"a": make()}, STARTS, batch=batch)
    assert_frame_equal(pure(split.table), pure(whole.table))
    assert all(map(np.array_equal, split.states["a", 0], whole.states["a", 0]))


def test_a_batch_asks_the_policy_once_a_step():
    calls = []

    class Counted(Onward):
        def act(self, obs):
            calls.append(len(obs))
            return super().act(obs)

    table = compare(Avoid, {"a": Counted()}, range(200, 500)).table
    assert set(calls) == {304} and len(calls) == table["length"].max()


def test_a_function_makes_the_controller_of_each_seed_and_batch():
    made = []

    def make(train_seed, batch):
        made.append((train_seed, batch))
        return Onward(0.001 * train_seed)

    result = compare(Avoid, {"a": make}, STARTS, train_seeds=(0, 3), batch=3)
    assert made == [(0, 0), (0, 1), (3, 0), (3, 1)]
    assert result.table["train_seed"].tolist() == [0] * 5 + [3] * 5
    assert set(result.states) == {("a", 0), ("a", 3)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_seeds": [1, 1]}, "start 1 is listed more than once"),
        ({"start_seeds": []}, "is empty"),
        ({"controllers": {}}, "at least one policy"),
        ({"train_seeds": ()}, "at least one policy"),
        ({"batch": 0}, "batch is 0"),
        ({"film": [8]}, "unknown start to film 8"),
        ({"train_seeds": (0, 1)}, "is one controller, but 2 training seeds"),
        ({"controllers": {"a": 3}}, "policy 'a' is a int"),
        ({"controllers": {"a": lambda seed, batch: None}}, "policy 'a' is a NoneType"),
    ],
)
def test_compare_refuses(change, words):
    with pytest.raises(UserError, match=words):
        compare(**{"task_type": Avoid, "controllers": {"a": Onward()}, "start_seeds": [0, 1], **change})


def test_a_wrong_answer_is_refused_with_the_padding_taken_off():
    wide = Onward()
    wide.act = lambda obs: obs[:, :3]
    with pytest.raises(UserError, match=r"policy 'a' answered actions of shape \(2, 3\) to 2 observations"):
        compare(Avoid, {"a": wide}, [0, 1])


def test_gather_refuses_unequal_starts():
    one, other = evaluate(Avoid, Onward(), [0, 1], "a").table, evaluate(Avoid, Onward(), [0, 2], "b").table
    with pytest.raises(
        UserError, match=r"'b' \(training seed 0\) and 'a' .* had different starts \(2 are not shared\)"
    ):
        gather([one, other])
    with pytest.raises(UserError, match="policy 'a' has start 0 twice"):
        gather([one, one])
    for nothing in ([], [one.iloc[:0]]):
        with pytest.raises(UserError, match="no episodes"):
            gather(nothing)
    assert len(gather([one, other.assign(start=one["start"])])) == 4


def test_progress_counts_episodes():
    told = []
    compare(Avoid, {"a": Onward(), "b": Onward()}, STARTS, batch=3, progress=lambda *now: told.append(now))
    done = [now[0] for now in told]
    assert done == sorted(done) and told[-1] == (10, 10, "b") and told[0] == (0, 10, "a")
    assert (3, 10, "a") in told and (5, 10, "a") in told


def test_the_bar_takes_itself_away(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = trial.Bar()
    bar(30, 60, "a")
    bar(31, 60, "a")  # too soon for another picture
    bar(60, 60, "a")
    said = capsys.readouterr().err
    assert said.count("\r") == 2 and f"[{'#' * 15}{' ' * 15}] 30 of 60 episodes, a" in said and said.endswith("\x1b[K")


# -- stop and resume --------------------------------------------------------------------------------------------------
@pytest.fixture
def played(monkeypatch):
    """The batches that were really run, as (policy, starts); `played.stop` is the number of the one that is cut off."""

    class Played(list):
        stop = None

    batches = Played()

    def counted(task_type, controller, starts, policy, *rest):
        batches.append((policy, starts))
        if len(batches) == batches.stop:
            raise KeyboardInterrupt
        return evaluate(task_type, controller, starts, policy, *rest)

    monkeypatch.setattr(trial, "evaluate", counted)
    return batches


def test_a_second_call_goes_on_where_the_first_one_stopped(tmp_path, played):
    def both():
        return compare(Avoid, {"a": Onward(), "b": Onward(0.01)}, STARTS, batch=2, keep=tmp_path / "kept")

    played.stop = 5  # the second batch of b
    with pytest.raises(KeyboardInterrupt):
        both()
    assert len(list((tmp_path / "kept").iterdir())) == 4
    played.clear()
    played.stop = None
    resumed = both()
    assert played == [("b", [7, 5]), ("b", [9])], "finished batches are not run again"
    played.clear()
    again = both()
    assert played == []
    assert_frame_equal(again.table, resumed.table)
    whole = compare(Avoid, {"a": Onward(), "b": Onward(0.01)}, STARTS)
    assert_frame_equal(pure(again.table), pure(whole.table))
    for key, episodes in whole.states.items():
        assert all(map(np.array_equal, again.states[key], episodes))


def test_what_is_kept_goes_by_content(tmp_path, played):
    def run(task_type=Avoid, controller=None, starts=STARTS, name="a"):
        played.clear()
        compare(task_type, {name: controller or Onward()}, starts, keep=tmp_path)
        return len(played)

    assert (run(), run(), run(name="another name")) == (1, 0, 0)
    assert run(controller=Onward(0.01)) == 1
    assert run(starts=STARTS[:4]) == 1
    assert run(task_type=Avoid.perturbed(lag=1.0)) == run(task_type=Avoid.perturbed(lag=0.5)) == 1
    assert run(task_type=Avoid.perturbed(lag=1.0)) == 0
    network = chunks()
    assert (run(controller=network), run(controller=network), run(controller=chunks())) == (1, 0, 0)
    with torch.no_grad():
        next(network.policy.parameters()).add_(1e-6)
    assert run(controller=network) == 1


def test_a_variant_is_another_task(tmp_path):
    from ilbook.tasks.insert import Insert

    entries = {
        trial_store.entry(tmp_path, kind, Onward(), [0], 16)
        for kind in (Insert, Insert.variant(hole_jitter=0.01), Insert.variant(push_chance=0.5))
    }
    assert len(entries) == 3


def test_a_damaged_batch_is_run_again(tmp_path, played, monkeypatch, capsys):
    def run():
        played.clear()
        return len(played), compare(Avoid, {"a": Nan()}, STARTS, keep=tmp_path).table, len(played)

    first = run()[1]
    said = capsys.readouterr().out
    assert "5 of 5 episodes ended by a number that is not finite" in said
    assert run()[2] == 0 and capsys.readouterr().out == said, "what is reused is reported as well"
    (file,) = tmp_path.iterdir()
    for damage in (file.read_bytes()[:300], b"", b"PK nonsense"):
        file.write_bytes(damage)
        _, table, ran = run()
        assert ran == 1
        assert_frame_equal(pure(table), pure(first))
    monkeypatch.setenv("ILBOOK_FRESH", "1")
    assert run()[2] == 1


class Nan(Onward):
    def act(self, obs):
        return np.full((len(obs), 2), np.nan)


def test_a_full_disk_costs_no_episode(tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise UserError("cannot write: no space left on device")

    monkeypatch.setattr(trial_store, "write_file", full)
    assert len(compare(Avoid, {"a": Onward()}, STARTS, keep=tmp_path).table) == 5
    assert "not kept: cannot write" in capsys.readouterr().out


SCRIPT = """
import sys, time
from pathlib import Path
from ilbook import trial
from ilbook.rollout import evaluate
from ilbook.tasks.avoid import Avoid
from policy import Onward

def slow(*arguments):
    print("batch", flush=True)
    if Path("slow").exists() and len(list(Path("kept").glob("*.npz"))) == 2:
        time.sleep(60)  # to be killed here
    return evaluate(*arguments)

trial.evaluate = slow
result = trial.compare(Avoid, {"a": Onward()}, range(8), batch=2, keep=Path("kept"))
print("done", result.table["length"].tolist())
"""


def test_a_killed_process_loses_only_the_batch_in_hand(tmp_path):
    policy = "class Onward:\n    def reset(self): pass\n    def act(self, obs): return obs[:, :2] + [0, 0.02]\n"
    (tmp_path / "policy.py").write_text(policy)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "slow").touch()
    environment = {**os.environ, "PYTHONPATH": f"{Path(ilbook.__file__).parents[1]}:{tmp_path}"}
    command = [sys.executable, "script.py"]
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert [first.stdout.readline() for _ in range(3)] == ["batch\n"] * 3
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 2
    (tmp_path / "slow").unlink()
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    lengths = evaluate(Avoid, Onward(), range(8), "a").table["length"].tolist()
    assert second.stdout.splitlines() == ["batch", "batch", f"done {lengths}"]


# -- blind ------------------------------------------------------------------------------------------------------------
def test_a_blind_trial_tells_names_only_when_all_is_scored():
    policies = {"up": Onward(), "aside": Onward(0.01), "more aside": Onward(0.02)}
    blind = Blind(policies, np.random.default_rng(3))
    with pytest.raises(UserError, match="not scored yet"):
        blind.unseal()
    result = compare(Avoid, blind, STARTS)
    codes = list(dict.fromkeys(result.table["policy"]))
    assert codes == list(blind) == blind.order and not set(codes) & set(policies)
    assert all(len(code) == 2 for code in codes)
    assert not any(name in text for name in policies for text in (repr(blind), str(result.table)))
    open_result = blind.reveal(result)
    names = blind.unseal()
    assert list(names) == blind.order and set(names.values()) == set(policies)
    known = compare(Avoid, policies, STARTS)
    for name in policies:
        ours, theirs = (r.table[r.table["policy"] == name].reset_index(drop=True) for r in (open_result, known))
        assert_frame_equal(pure(ours).drop(columns="code"), pure(theirs))
        assert {names[code] for code in ours["code"]} == {name}
        assert np.array_equal(open_result.states[name, 0][0], known.states[name, 0][0])
    with pytest.raises(UserError, match="is unsealed"):
        compare(Avoid, blind, STARTS)


def test_scores_by_hand_and_an_interrupted_trial_stay_sealed(monkeypatch):
    blind = Blind({"up": Onward(), "aside": Nan()}, np.random.default_rng(0))
    first, second = blind
    blind.scored(first)
    with pytest.raises(UserError, match=f"{second} not scored yet"):
        blind.unseal()
    with pytest.raises(UserError, match="unknown code 'Z1'"):
        blind.scored("Z1")
    blind.scored(second)
    assert list(blind.unseal()) == [first, second]


def test_order_and_codes_are_random_and_follow_from_the_generator():
    policies = {name: Onward() for name in "abcd"}

    def names(seed):
        blind = Blind(policies, np.random.default_rng(seed))
        for code in blind:
            blind.scored(code)
        return list(blind.unseal().items())

    assert names(1) == names(1)
    assert len({tuple(name for _, name in names(seed)) for seed in range(20)}) > 5
    for few in ({}, {"a": Onward()}):
        with pytest.raises(UserError, match="hides nothing"):
            Blind(few, np.random.default_rng(0))


# -- claims and films -------------------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("ILBOOK_OUT", str(tmp_path))
    return Run.start("n")


def claim(policy="up", minimum=0.1):
    return Claim("c", "Up is better.", "m", policy, "aside", "success", "higher", minimum, "s")


def test_a_claim_comes_before_its_data(run):
    evaluate(Avoid, Onward(), [0, 1], "aside")  # the failure that the page starts from
    run.declare(claim())
    evaluate(Avoid, Onward(), [0, 1], "up")
    run.declare(claim())  # the same cell again
    for late in (
        claim(minimum=0.2),
        Claim("d", "x", "m", "up", None, "success", "higher", 0.1, "s"),
    ):
        with pytest.raises(UserError, match="declared after its data: this run has already evaluated 'up'"):
            run.declare(late)
    Run.start("n").declare(claim(minimum=0.2))  # a run of its own, such as all cells again


@pytest.mark.parametrize("blind", [False, True])
def test_compare_counts_as_data_under_any_name(run, tmp_path, blind):
    policies = {"up": Onward(), "aside": Onward(0.01)}
    compare(Avoid, policies, [0, 1], keep=tmp_path)
    later = Run.start("n")
    compare(Avoid, Blind(policies, np.random.default_rng(0)) if blind else policies, [0, 1], keep=tmp_path)
    with pytest.raises(UserError, match="declared after its data"):
        later.declare(claim())


def test_wall_time_is_in_no_result(run):
    table = evaluate(Avoid, Onward(), [0, 1], "up").table
    with pytest.raises(UserError, match="column 'wall_seconds', which differs from run to run"):
        run.table("episodes", table)
    run.table("episodes", pure(table))
    with pytest.raises(UserError, match="wall_seconds differs"):
        Claim("c", "Up is quick.", "m", "up", None, "wall_seconds", "lower", -1.0, "s")


def test_films_are_drawn_when_they_are_shown(monkeypatch):
    drawn = []
    monkeypatch.setattr(Avoid, "render", lambda self, states, size: drawn.append(len(states)) or picture(states, size))
    blind = Blind({"up": Onward(), "aside": Onward(0.01)}, np.random.default_rng(0))
    result = compare(Avoid, blind, STARTS, film=[7, 4])
    assert list(result.films) == [7, 4] and drawn == []
    frames = result.films[7].frames(32)
    lengths = result.table.loc[result.table["start"] == 7, "length"]
    assert drawn == (lengths + 1).tolist() and frames.shape[0] == lengths.max() + 1
    shown = result.films[7].film
    assert isinstance(shown, media.Film) and "start 7" in shown.alt and blind.order[0] in shown.alt
    html = blind.reveal(result).films[7]._repr_html_()
    assert "up (" in html and "aside (" in html and blind.order[0] not in html.split("src=")[0]


def picture(states, size):
    return np.zeros((len(states), size, size, 3), np.uint8)


def test_the_table_is_a_plain_frame():
    assert type(compare(Avoid, {"a": Onward()}, [0]).table) is pd.DataFrame


def test_the_bar_in_a_notebook_is_one_display(monkeypatch):
    import IPython
    import IPython.display

    class Handle:
        update = staticmethod(lambda content, raw: shown.append(content["text/plain"]))

    def display(content, raw, display_id):
        shown.append(content["text/plain"])
        return Handle

    shown, shell = [], type("Shell", (), {"kernel": None})
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", display)
    bar = trial.Bar()
    bar(1, 4, "a")
    bar(4, 4, "a")
    assert len(shown) == 2 and "1 of 4 episodes, a" in shown[0] and shown[1] == ""


def test_nothing_is_kept_by_a_kernel_that_holds_an_older_text(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial_store.sources, "edited", lambda modules: ["ilbook.rollout"])
    compare(Avoid, {"a": Onward()}, [0, 1], keep=tmp_path)
    assert "ilbook.rollout was edited since this kernel started" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
