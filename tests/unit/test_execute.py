"""The runner, on notebooks that end in every way a notebook can end."""

import errno
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ilbook.errors import UserError
from ilbook.page.run import Run
from ilbook.paths import build, write_file
from ilbook.press import doctor, execute, job, notebook, record

GOOD = """import os, subprocess, sys, warnings
warnings.warn("careful")
hungry = "import time; block = bytearray(300 * 2**20); block[::4096] = b'x' * len(block[::4096]); time.sleep(2)"
subprocess.run([sys.executable, "-c", hungry])
print(os.environ["OMP_NUM_THREADS"], os.environ["ILBOOK_THREADS"], os.getcwd(), os.environ["ILBOOK_OUT"])
open(os.path.join(os.environ["ILBOOK_OUT"], "film.mp4"), "wb").close()"""
SLOW = """import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path("child.pid").write_text(str(child.pid))
time.sleep(600)"""
ENDINGS = {  # notebook -> its cell, the status it must get, words that must be said
    "01_good": (GOOD, "ok", ""),
    "02_raises": ("first = 1\nfirst / 0", "failed", "code cell 2 of 3: ZeroDivisionError: division by zero"),
    "04_sys_exit": ("import sys; sys.exit()", "incomplete", "code cell 2 of 3: nothing ran after it"),
    "05_exit_0": ("raise SystemExit(0)", "incomplete", "code cell 2 of 3: nothing ran after it"),
    "06_os_exit": ("import os; os._exit(0)", "died", "code cell 2 of 3: Python ended with status 0"),
    "07_killed": ("import os; os.kill(os.getpid(), 9)", "died", "code cell 2 of 3: Python ended with status -9"),
    "08_slow": (SLOW, "timeout", "code cell 2 of 3: it was stopped at the limit of 15 s"),
    "09_full": ("raise OSError(28, 'No space left on device')", "failed", "the disk is full"),
    "10_no_sentinel": ("1 + 1", "incomplete", "code cell 3 of 3: nothing ran after it, and run.finish()"),
}
CORES = doctor.cores()


@pytest.fixture(scope="module")
def ended(module_book):
    """All endings in one run, two at a time; rows by id, and what was said meanwhile."""
    for name, (source, _, _) in ENDINGS.items():
        keep = {} if name != "10_no_sentinel" else {"finish": ""}
        module_book.quick(name, *([source] if name != "10_no_sentinel" else [source, source]), **keep)
    said = io.StringIO()
    rows = execute.run([], "smoke", jobs=2, timeout=15, progress=said)
    return {row["id"]: row for row in rows}, said.getvalue(), module_book


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDINGS)
def test_every_ending_has_its_status(ended, name):
    rows, said, _ = ended
    _, status, words = ENDINGS[name]
    assert rows[name]["status"] == status
    assert words in rows[name]["why"]
    assert words in said


@pytest.mark.slow
def test_the_others_go_on_and_rows_keep_their_order(ended):
    rows, said, _ = ended
    assert list(rows) == list(ENDINGS)
    assert len(re.findall(r"^\[\d+/9\] \w+  \w+  [\d.]+ s$", said, re.MULTILINE)) == 9


@pytest.mark.slow
def test_a_failing_cell_is_shown_with_its_error(ended):
    rows, said, _ = ended
    assert "first / 0" in said and "ZeroDivisionError: division by zero" in "\n".join(rows["02_raises"]["trace"])


@pytest.mark.slow
def test_a_notebook_past_its_limit_takes_its_children_with_it(ended):
    _, _, book = ended
    pid = int((book.root / "notebooks" / "1_foundations" / "child.pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_memory_counts_what_the_kernel_started(ended):
    assert ended[0]["01_good"]["peak_mb"] > 300


@pytest.mark.slow
def test_two_jobs_share_the_cores_and_pages_hold_no_absolute_path(ended):
    rows, _, book = ended
    executed = book.root / "build" / "executed" / "smoke" / "01_good.ipynb"
    text = executed.read_text()
    threads = max(1, CORES // 2)
    assert f"{threads} {threads} notebooks/1_foundations build/runs/01_good/smoke" in text
    assert str(book.root) not in text and "ipykernel_" not in text and "papermill" not in text
    page = rows["01_good"]["page"].read_text()
    assert str(book.root) not in page and not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "book_assets/mathjax/tex-chtml.js" in page
    assert [video.name for video in rows["01_good"]["out"].rglob("*.mp4")] == ["film.mp4"]


@pytest.mark.slow
def test_only_whole_results_are_kept(ended):
    _, _, book = ended
    left = {path.name for path in (book.root / "build" / "executed" / "smoke").iterdir()}
    assert {"01_good.ipynb", "01_good.html", "01_good.json"} <= left
    assert not [name for name in left if name.startswith(".") or (name.endswith(".ipynb") and name != "01_good.ipynb")]
    assert [path.name for path in (book.root / "build" / "runs").iterdir()] == ["01_good"]


@pytest.mark.slow
def test_an_unchanged_notebook_is_reused_and_a_changed_one_is_not(book):
    path = book.quick("01_page", "x = 1")
    assert [row["status"] for row in execute.run([], "smoke")] == ["ok"]
    assert [row["status"] for row in execute.run([], "smoke")] == ["reused"]
    said = io.StringIO()
    (book.root / "requirements.lock").write_text("numpy==2.4.5\n")
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    assert [row["status"] for row in execute.run(["01_page"], "smoke", progress=said)] == ["ok"]
    assert "running again, because the notebook and requirements.lock changed" in said.getvalue()
    assert [row["status"] for row in execute.run([], "smoke", fresh=True)] == ["ok"]
    kept = (book.root / "build" / "executed" / "smoke" / "01_page.ipynb").read_bytes()
    assert [row["status"] for row in execute.run([], "smoke", seed=3)] == ["ok"], "another seed is another run"
    assert (book.root / "build" / "executed" / "smoke" / "01_page.ipynb").read_bytes() == kept
    assert (book.root / "build" / "runs" / "01_page" / "smoke-seed3" / "result.json").exists()
    kept_page = book.root / "build" / "executed" / "smoke" / "01_page-seed3.html"
    assert "seed = 3" in re.sub(r"<[^>]*>", "", kept_page.read_text())


@pytest.mark.slow
def test_an_interrupted_run_stops_cleanly_and_resumes(book):
    book.quick("01_quick", "x = 1")
    book.quick("02_slow", "import time; time.sleep(600)")
    command = [sys.executable, "-m", "ilbook.press.cli", "run", "--profile", "smoke", "--json"]
    path = {"PYTHONPATH": str(Path(execute.__file__).parents[2])}
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | path)
    folder = book.root / "build" / "executed" / "smoke"
    deadline = time.monotonic() + 60
    while not (folder / "01_quick.json").exists() or not list(folder.glob(".part-*-02_slow/raw.ipynb")):
        assert time.monotonic() < deadline and runner.poll() is None
        time.sleep(0.1)
    started = psutil.Process(runner.pid).children(recursive=True)
    runner.send_signal(signal.SIGTERM)
    out, err = runner.communicate(timeout=30)
    assert (runner.returncode, out) == (130, "")
    assert "interrupted" in err
    assert not psutil.wait_procs(started, timeout=10)[1], "a kernel outlived the runner"
    assert {path.name for path in folder.iterdir()} == {"01_quick.ipynb", "01_quick.html", "01_quick.json"}
    assert execute.run(["01_quick"], "smoke")[0]["status"] == "reused"


@pytest.mark.slow
def test_kernels_end_when_the_runner_is_killed(book):
    book.quick("01_slow", "import time; time.sleep(600)")
    command = [sys.executable, "-m", "ilbook.press.cli", "run", "--profile", "smoke"]
    path = {"PYTHONPATH": str(Path(execute.__file__).parents[2])}
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | path)
    folder = book.root / "build" / "executed" / "smoke"
    deadline = time.monotonic() + 60
    started: list[psutil.Process] = []
    while not started or not list(folder.glob(".part-*/raw.ipynb")):  # the kernel
        assert time.monotonic() < deadline and runner.poll() is None
        time.sleep(0.1)
        started = psutil.Process(runner.pid).children(recursive=True)
    runner.kill()
    runner.wait()
    assert not psutil.wait_procs(started, timeout=10)[1]
    execute._sweep(folder)
    assert not list(folder.glob(".part-*")), "the next run removes what a killed one left"


def test_a_full_disk_ends_each_notebook_with_a_clear_word(book, monkeypatch):
    book.quick("01_page")
    book.quick("02_page")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(job, "execute_notebook", full)
    rows = execute.run([], "smoke")
    assert [row["status"] for row in rows] == ["error"] * 2 and all(job.DISK_FULL in row["why"] for row in rows)
    assert not list((book.root / "build" / "executed" / "smoke").iterdir())


def test_a_job_that_cannot_start_does_not_stop_the_others(book, monkeypatch):
    book.quick("01_page")
    book.quick("02_page")
    monkeypatch.setattr(job.Job, "_execute", lambda self: [][1])
    rows = execute.run([], "smoke")
    assert [(row["status"], row["why"]) for row in rows] == [("error", "IndexError: list index out of range")] * 2


def test_a_damaged_record_is_no_record(book):
    plan = record.plan(book.root, book.quick("01_page"), "smoke", None, [])
    for text in ("", "[]", "{}", '{"parts": {}}'):
        plan.file(".json").parent.mkdir(parents=True, exist_ok=True)
        plan.file(".json").write_text(text)
        assert record.load(plan) == (None, "")
    record.save(plan, {"seconds": 1.0, "peak_mb": 2.0, "claims": []})
    assert record.load(plan) == (None, ""), "the executed files are missing"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ids": ["01_pag"]}, "unknown notebook '01_pag'; nearest valid name: '01_page'"),
        ({"profile": "smok"}, "nearest valid name: 'smoke'"),
        ({"jobs": 0}, "--jobs 0 is not possible"),
        ({"timeout": -1.0}, "--timeout -1 is not possible"),
        ({"overrides": ["demo=3"]}, "nearest valid name: 'demos'"),
        ({"overrides": ["demos=many"]}, "--set demos=many is not of type int"),
        ({"overrides": ["demos=2.5"]}, "--set demos=2.5 is not of type int"),
        ({"overrides": ["demos=True"]}, "--set demos=True is not of type int"),
        ({"overrides": ["demos"]}, "give a value such as demos=5"),
        ({"overrides": ["profile=full"]}, "unknown parameter of 01_page 'profile'"),
        ({"profile": "smoke", "publish": True}, "cannot be published; leave out the smoke profile"),
        ({"seed": 4, "publish": True}, "leave out seed"),
        ({"seed": 20261125}, "seed 20261125 is not a whole number from 0 to 4194303"),
        ({"overrides": ["seed=4194304"]}, "seed 4194304 is not a whole number"),
        ({"overrides": ["seed=-1"]}, "seed -1 is not a whole number"),
        ({"seed": 1, "overrides": ["seed=2"]}, "seed is given twice"),
        ({"overrides": ["demos=1", "demos=2"]}, "demos is given twice"),
        ({"overrides": ['sizes=("a", 2)']}, "is not of type tuple; give a value such as sizes=(1, 2)"),
        ({"timeout": math.nan}, "--timeout nan is not possible"),
        ({"ids": ["01_page.ipynb"]}, "unknown notebook '01_page.ipynb'"),
        ({"ids": ["/nowhere/01_page.ipynb"]}, "unknown notebook '/nowhere/01_page.ipynb'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(book, arguments, words):
    book.quick("01_page", parameters="demos: int = 5  # how many\nsizes: tuple = (1, 2)\n")
    with pytest.raises(UserError, match=re.escape(words)):
        execute.run(**({"ids": []} | arguments))
    assert not (book.root / "build").exists()


def test_a_notebook_is_named_by_its_id_or_its_own_path(book, monkeypatch):
    page, other = book.quick("01_page"), book.root / "mine" / "01_page.ipynb"
    (other.parent / "linked").mkdir(parents=True)
    (other.parent / "linked" / "other_name.ipynb").symlink_to(page)
    other.write_bytes(page.read_bytes())
    for name in ("01_page", str(page), str(other.parent / "linked" / "other_name.ipynb")):
        assert notebook.choose(book.root, [name]) == [page]
    monkeypatch.chdir(page.parent)
    assert notebook.choose(book.root, ["01_page.ipynb", "../1_foundations/01_page.ipynb"]) == [page]
    monkeypatch.chdir(other.parent)
    for name in ("01_page.ipynb", str(other), str(book.root / "notebooks")):
        with pytest.raises(UserError, match="is no page of this book"):
            notebook.choose(book.root, [name])


@pytest.fixture
def finished(book):
    """The plan of a page that has been run."""
    plan = record.plan(book.root, book.quick("01_page"), "lecture", None, [])
    for name in (".ipynb", ".html"):
        write_file(plan.file(name), "page")
    told = {"notebook": "01_page", "profile": "lecture", "seed": 0, "token": plan.key, "claims": []}
    write_file(plan.out / "result.json", json.dumps(told))
    write_file(plan.out / "provenance.json", "{}")
    record.save(plan, {"seconds": 1.0, "peak_mb": 2.0, "claims": []})
    return plan


@pytest.mark.parametrize("name", ["result.json", "provenance.json", "01_page.ipynb", "01_page.html"])
def test_a_record_is_of_what_lies_there(finished, name):
    assert record.load(finished)[0]
    (file,) = (file for folder in (finished.out, finished.folder) for file in folder.glob(name))
    write_file(file, file.read_bytes() + b" ")
    assert record.load(finished) == (None, name)
    file.unlink()
    assert record.load(finished)[0] is None


@pytest.mark.parametrize("change", [{"seed": 7}, {"token": None}, {"claims": [1]}, {"profile": "full"}])
def test_a_result_that_was_replaced_is_not_published(finished, monkeypatch, change):
    result = json.loads((finished.out / "result.json").read_text())

    def replaced(plan):
        found = load(plan)
        write_file(plan.out / "result.json", json.dumps(result | change))
        return found

    load = record.load
    monkeypatch.setattr(record, "load", replaced)
    with pytest.raises(UserError, match="is no longer the result of 01_page; run it again"):
        execute.run([], "lecture", publish=True)
    assert not (finished.root / "data").exists()


def test_a_direct_run_does_not_replace_what_the_runner_made(finished, monkeypatch):
    for name in ("ILBOOK_OUT", "ILBOOK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for seed in (0, 7):
        Run.start("01_page", "lecture", seed).finish()
        assert record.load(finished)[0]


def test_what_is_made_goes_where_the_reader_wants_it(finished, monkeypatch, tmp_path):
    monkeypatch.setenv("ILBOOK_BUILD", str(tmp_path / "mine"))
    for place in (finished.folder, finished.out, Run.start("01_page").out, build() / "trained"):
        assert place.is_relative_to(tmp_path / "mine")
    monkeypatch.setenv("ILBOOK_BUILD", "beside")  # whatever the folder in which one types
    assert build() == finished.root / "beside"


@pytest.mark.parametrize("what", ["a file", "below a file", "no right"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(book, monkeypatch, tmp_path, what):
    book.quick("01_page")
    (tmp_path / "file").touch()
    monkeypatch.setenv("ILBOOK_BUILD", str(tmp_path / ("new" if what == "no right" else "file")))
    if what == "no right":
        monkeypatch.setattr("ilbook.paths.os.access", lambda *_: False)
    with pytest.raises(UserError, match=r"cannot use the folder .*; set ILBOOK_BUILD to a folder of your own"):
        execute.run([], "smoke") if what != "below a file" else Run.start("01_page", "smoke")


@pytest.mark.parametrize("home", [None, "/proc/nobody", "/dev/null"])
def test_kernels_have_a_home(book, monkeypatch, home):
    monkeypatch.setenv("HOME", home or "")
    if home is None:
        monkeypatch.setattr(execute.os.path, "expanduser", lambda name: name)
    monkeypatch.setattr(execute.os, "access", lambda path, _: str(path).startswith(str(book.root)))
    execute._have_home()
    assert os.environ["HOME"] == str(book.root / "build" / "home") and Path(os.environ["HOME"]).is_dir()
    execute._have_home()


def test_values_take_the_type_of_the_parameter(book):
    parameters = "n: int = 5\nrate: float = 0.5\nflag: bool = True\nname: str = 'x'\nsizes: tuple = (1,)\n"
    page = notebook.read(book.quick("01_page", parameters=parameters))
    settings = ["n=-7", "rate=2", "flag=False", "name=3", "sizes=(2, 3)"]
    assert notebook.override(page, settings) == {"n": -7, "rate": 2.0, "flag": False, "name": "3", "sizes": (2, 3)}


def test_parameters_must_be_literals_and_complete(book, make_cell):
    for source, words in (
        ("x: int = 1", "sets ['profile', 'seed']; add it"),
        ("x = f()", "literals only"),
        ("import os", "literals only"),
        ("x = 1", "not `name: type = literal`"),
    ):
        page = notebook.read(book.add("01_page", make_cell("code", source, "parameters")))
        with pytest.raises(UserError, match=re.escape(words)):
            notebook.parameters(page)
    with pytest.raises(UserError, match="has no cell with the tag 'parameters'"):
        notebook.parameters(notebook.read(book.add("01_page", make_cell("code", "x = 1"))))


def test_something_that_is_no_notebook_is_refused(book):
    path = book.root / "notebooks" / "1_foundations" / "01_page.ipynb"
    path.parent.mkdir()
    with pytest.raises(UserError, match="there is no notebook"):
        notebook.read(path)
    for text in ("", "[]", '{"cells": 3}'):
        path.write_text(text)
        with pytest.raises(UserError, match="not a readable notebook"):
            notebook.read(path)


def test_the_key_follows_parameters_and_prose_but_not_outputs(book, make_cell):
    path = book.quick("01_page", "x = 1")
    before = record.plan(book.root, path, "smoke", None, []).key
    content = json.loads(path.read_text())
    content["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    path.write_text(json.dumps(content))
    assert record.plan(book.root, path, "smoke", None, []).key == before
    assert record.plan(book.root, path, "smoke", 1, []).key != before
    assert record.plan(book.root, path, "full", None, []).key != before
    content["cells"][0]["source"] += " More."
    path.write_text(json.dumps(content))
    assert record.plan(book.root, path, "smoke", None, []).key != before


@pytest.mark.slow
def test_a_page_that_does_not_run_what_is_asked_fails(book):
    start = "from ilbook.page.run import Run\nrun = Run.start('01_page', profile, 0)\nrun.finish()"
    book.quick("01_page", finish=start)
    (row,) = execute.run([], "smoke", seed=3)
    assert row["status"] == "failed" and "the result is of seed 0, and not what was asked for" in row["why"]


@pytest.mark.slow
def test_a_published_result_is_the_one_of_the_run(book):
    path = book.quick("01_page", finish="run.finish()")
    start = "from ilbook.page.run import Run\\nrun = Run.start('01_page', profile, seed)\\n"
    path.write_text(path.read_text().replace("run.finish()", start + "run.finish()"))
    said = io.StringIO()
    (row,) = execute.run([], "lecture", publish=True, progress=said)
    assert row["status"] == "ok", row["why"]
    assert "published as data/results/01_page/lecture.json" in said.getvalue()
    published = json.loads((book.root / "data" / "results" / "01_page" / "lecture.json").read_text())
    assert published["result"]["notebook"] == "01_page" and "token" not in published["result"]
    first = (book.root / "build" / "runs" / "01_page" / "lecture" / "result.json").read_bytes()
    execute.run([], "lecture", fresh=True)
    again = (book.root / "build" / "runs" / "01_page" / "lecture" / "result.json").read_bytes()
    assert again == first, "two runs with one seed give the same result, byte by byte"
