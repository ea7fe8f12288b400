"""What a result depends on, and what makes it stale."""

import json
import subprocess

import pytest

from ilbook import used
from ilbook.errors import UserError
from ilbook.page import versions
from ilbook.page.run import Run
from ilbook.press.results import why_stale

MANIFEST = {
    name: {"file": f"{name}.npz", "task": "pusht", "sha256": f"{digit * 64}", **dict.fromkeys(KEYS, 0)}
    for KEYS in [("bytes", "episodes", "steps", "generator", "seed", "engine")]
    for name, digit in (("pusht", "1"), ("insert_50", "2"))
}


@pytest.fixture
def book(tmp_path, monkeypatch, golden):
    """A repository without notebooks, in which tasks.pusht, tasks.avoid and experts.pusht have traces."""
    for name in ("ILBOOK_OUT", "ILBOOK_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks" / "1_part").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(MANIFEST))
    golden({"tasks.pusht": {"x": 1}, "tasks.avoid": {"x": 1}, "experts.pusht": {"x": 1}})
    return tmp_path


def code(source, *tags):
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source.splitlines(keepends=True)}


def write_notebook(book, *cells, parameters="steps: int = 5  # how long\nseed: int = 0", text="Words."):
    cells = [cell if isinstance(cell, dict) else code(cell) for cell in cells]
    cells = [{"cell_type": "markdown", "source": text}, code(parameters, "parameters"), *cells]
    path = book / "notebooks" / "1_part" / "01_n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    return path


def provenance(book, *parts):
    """What a run of the notebook that used these parts leaves beside its result."""
    with used.collected():
        used.note(*parts)
        run = Run.start("01_n")
        run.finish()
    return json.loads((run.out / "provenance.json").read_text())


def stale(book, told):
    return why_stale(told, versions.notebook_key(book / "notebooks" / "1_part" / "01_n.ipynb"))


# -- the code of notebooks --------------------------------------------------------------------------------------------
def test_only_code_is_part_of_the_key(book):
    before = versions.notebook_key(write_notebook(book, "x = 1"))
    assert versions.notebook_key(write_notebook(book, '"""Says."""\nx = (\n  1)  # one', text="Other words.")) == before
    changed = versions.notebook_key(write_notebook(book, "x = 2"))
    assert [part for part in before if before[part] != changed[part]] == ["notebook"]


def test_profile_and_seed_are_no_part_of_the_key_but_other_parameters_are(book):
    before = versions.notebook_key(write_notebook(book, "x = 1"))
    other_seed = write_notebook(book, "x = 1", parameters="steps: int = 5\nseed: int = 3")
    assert versions.notebook_key(other_seed) == before
    longer = versions.notebook_key(write_notebook(book, "x = 1", parameters="steps: int = 6\nseed: int = 0"))
    assert [part for part in before if before[part] != longer[part]] == ["parameters"]
    assert versions.notebook_key(write_notebook(book, "x = 1"), {"steps": 6, "seed": 9}) == longer
    more = write_notebook(book, "x = 1", parameters="steps: int = 5\nseed: int = 0\nn: int = 1")
    assert versions.notebook_key(more)["notebook"] != before["notebook"]


@pytest.mark.parametrize("tag", ["exercise", "predict", "concept", "player", "hide-input"])
def test_cells_that_teach_ask_or_draw_are_no_part_of_the_key(book, tag):
    before = versions.notebook_key(write_notebook(book, "x = 1", code("y = ...", tag)))
    assert versions.notebook_key(write_notebook(book, "x = 1", code("y = 'reworded'", tag))) == before
    assert versions.notebook_key(write_notebook(book, "x = 1")) == before
    assert versions.notebook_key(write_notebook(book, "x = 1", code("y = ..."))) != before


def test_a_run_has_the_parameters_of_its_kernel(book, monkeypatch):
    import __main__

    path = write_notebook(book, "x = 1")
    monkeypatch.setattr(__main__, "steps", 7, raising=False)
    assert versions.key_of_run("01_n") == versions.notebook_key(path, {"steps": 7})
    assert versions.key_of_run("elsewhere") == {}


@pytest.mark.parametrize("parameters", ["import os", "steps = 2 * 3", "steps: int", "a.b = 1"])
def test_parameters_are_literals(book, parameters):
    with pytest.raises(UserError, match=r"the parameters cell of 01_n\.ipynb may hold literals only: `.*`; move it"):
        versions.notebook_parameters(write_notebook(book, parameters=parameters))


def test_magics_and_what_papermill_injects_are_no_code(book):
    plain = versions.notebook_key(write_notebook(book, "x = 5 % 3"))
    injected = code("seed = 3", "injected-parameters")
    assert versions.notebook_key(write_notebook(book, "%%time\n!ls\n  %timeit 1\nx = 5 % 3\n", injected)) == plain


@pytest.mark.parametrize("content", ["", "{}", '{"cells": 3}'])
def test_a_damaged_notebook_is_named(tmp_path, content):
    path = tmp_path / "n.ipynb"
    path.write_text(content)
    with pytest.raises(UserError, match=r"n\.ipynb cannot be read as a notebook"):
        versions.notebook_parameters(path)


def test_code_that_is_no_python_is_named(book):
    with pytest.raises(UserError, match=r"01_n\.ipynb, cell 2: not valid Python"):
        versions.notebook_key(write_notebook(book, "x = = 1"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 'a'", "x = b'a'"),
        ("f(None)", "f()"),
        ("x: int = 1", "x = 1"),
        ("return_ = 1", "x = 1"),
    ],
)
def test_different_code_has_different_hashes(book, one, other):
    assert versions.notebook_key(write_notebook(book, one)) != versions.notebook_key(write_notebook(book, other))


# -- the behaviour of parts -------------------------------------------------------------------------------------------
def test_a_version_is_the_hash_of_a_trace(book, golden):
    before = versions.known(["tasks.pusht"])["tasks.pusht"]
    assert len(before) == 8 and before == versions.digest({"x": 1})[:8]
    golden({"tasks.pusht": {"x": 2}})
    assert versions.known(["tasks.pusht"])["tasks.pusht"] != before


def test_the_version_of_data_is_the_hash_of_their_files(book):
    assert versions.known(["data:pusht", "data:insert_50"]) == {"data:pusht": "1" * 8, "data:insert_50": "2" * 8}
    films = {**MANIFEST, "pusht": {**MANIFEST["pusht"], "frames": {"a.mp4": "3" * 64}}}
    (book / "data" / "manifest.json").write_text(json.dumps(films))
    assert versions.known(["data:pusht"])["data:pusht"] not in ("1" * 8, "3" * 8)


@pytest.mark.parametrize("part", ["policies.new", "tasks.pusht:lag", "data:mine"])
def test_a_part_without_a_trace_has_no_version(book, part):
    assert versions.known(["tasks.pusht", part])[part] is None


def test_a_damaged_manifest_is_named(book):
    (book / "data" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json .*JSON"):
        versions.known(["data:pusht"])


def test_a_damaged_trace_stops_a_run_at_its_start(book):
    write_notebook(book, "x = 1")
    versions.golden_file("tasks.avoid").write_text('{"part": "tasks.avoid", "tol')
    versions.recorded.cache_clear()
    with pytest.raises(UserError, match=r"tasks\.avoid\.json is missing, damaged or .*Unterm.*; restore it from git"):
        Run.start("01_n")


def test_modules_that_others_cover_have_no_version(book, golden):
    golden({"tasks.pusht": {"x": 1}}, covered={"tasks.base": "what every task shares"})
    assert versions.known(["tasks.base", "tasks.pusht"]).keys() == {"tasks.pusht"}


# -- what makes a result stale ----------------------------------------------------------------------------------------
def test_a_result_names_what_ran(book):
    write_notebook(book, "x = 1")
    told = provenance(book, "tasks.pusht", "data:insert_50")
    assert told["parts"] == {"tasks.pusht": versions.digest({"x": 1})[:8], "data:insert_50": "2" * 8}
    assert told["notebook"] and told["parameters"] == {"steps": "5"} and told["commit"] is None
    assert stale(book, told) == ""


def test_a_changed_cell_makes_it_stale_and_a_reworded_exercise_does_not(book):
    write_notebook(book, "x = 1", code("share = ...  # a number", "exercise"))
    told = provenance(book, "tasks.pusht")
    write_notebook(book, "x = 1", code("share = ...  # a number between 0 and 1\nprint(share)", "exercise"))
    assert stale(book, told) == ""
    write_notebook(book, "x = 2", code("share = ...", "exercise"))
    assert stale(book, told) == "the notebook changed"


def test_other_physics_make_exactly_the_results_stale_that_used_them(book, golden):
    write_notebook(book, "x = 1")
    with_pusht, without = provenance(book, "tasks.pusht", "experts.pusht"), provenance(book, "tasks.avoid")
    golden({"tasks.pusht": {"x": 1.01}, "tasks.avoid": {"x": 1}, "experts.pusht": {"x": 1}})
    assert stale(book, with_pusht) == "changed: tasks.pusht" and stale(book, without) == ""


def test_traces_that_do_not_move_make_nothing_stale(book, golden):
    """As after a renamed helper, or with another version of torch."""
    write_notebook(book, "x = 1")
    told = provenance(book, "tasks.pusht", "experts.pusht")
    told |= {"commit": "0123456789ab", "versions": {**told["versions"], "torch": "99.0"}, "python": "3.99"}
    golden({"tasks.pusht": {"x": 1}, "tasks.avoid": {"x": 1}, "experts.pusht": {"x": 1}})
    assert stale(book, told) == ""


def test_other_data_make_it_stale(book):
    write_notebook(book, "x = 1")
    told = provenance(book, "data:pusht")
    manifest = book / "data" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("2" * 64, "3" * 64))
    assert stale(book, told) == ""
    manifest.write_text(manifest.read_text().replace("1" * 64, "3" * 64))
    assert stale(book, told) == "changed: data:pusht"


def test_a_part_that_is_gone_makes_it_stale(book, golden):
    write_notebook(book, "x = 1")
    told = provenance(book, "tasks.pusht", "data:pusht")
    (book / "data" / "manifest.json").write_text("{}")
    golden({"tasks.avoid": {"x": 1}})
    assert stale(book, told) == "gone, or without a trace: data:pusht, tasks.pusht"


def test_a_part_that_ran_without_a_trace_makes_it_stale_for_good(book, golden):
    write_notebook(book, "x = 1")
    told = provenance(book, "policies.new")
    assert told["parts"] == {"policies.new": None}
    assert stale(book, told) == "gone, or without a trace: policies.new"
    golden({"policies.new": {"x": 1}})
    assert stale(book, told) == "gone, or without a trace: policies.new"


def test_all_causes_are_named_but_only_three_of_a_kind(book, golden):
    parts = [f"nets.n{i}" for i in range(5)]
    golden({part: {"x": 1} for part in parts})
    write_notebook(book, "x = 1")
    told = provenance(book, *parts)
    golden({part: {"x": 2} for part in parts})
    write_notebook(book, "x = 2", parameters="steps: int = 6\nseed: int = 0")
    words = "the notebook changed; parameters changed: steps; changed: nets.n0, nets.n1, nets.n2 and 2 more"
    assert stale(book, told) == words


def test_a_result_that_names_no_parts_is_stale(book):
    write_notebook(book, "x = 1")
    assert stale(book, {"hashes": {"sources": {}}}) == "it does not say which parts ran"


# -- the commit -------------------------------------------------------------------------------------------------------
def test_the_commit_says_whether_a_file_that_matters_is_another(book):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *words],
            cwd=book, check=True, capture_output=True,
        )  # fmt: skip

    assert versions.commit() is None
    write_notebook(book, "x = 1")
    git("init")
    git("add", ".")
    git("commit", "-m", "All")
    clean = versions.commit()
    assert len(clean) == 12 and not clean.endswith("+")
    (book / "notes.txt").write_text("matters to nobody")
    assert versions.commit() == clean
    write_notebook(book, "x = 2")
    assert versions.commit() == clean + "+"


# -- what escaped the hashes of sources -------------------------------------------------------------------------------
def an_expert():
    from ilbook import experts

    experts.get("pusht")


def a_data_set():
    from ilbook import data

    data.load("insert_50", pictures=False)


@pytest.mark.parametrize(("use", "part"), [(an_expert, "experts.pusht"), (a_data_set, "data:insert_50")])
def test_what_is_got_by_name_is_a_part_of_the_result(tmp_path, monkeypatch, use, part):
    monkeypatch.setenv("ILBOOK_OUT", str(tmp_path))
    with used.collected():
        run = Run.start("01_first_policy")
        use()
        run.finish()
    assert part in json.loads((tmp_path / "provenance.json").read_text())["parts"]
