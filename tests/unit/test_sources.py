import json

import pytest

from ilbook.errors import UserError
from ilbook.page import sources


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in place of ilbook; returns a function that writes one of its files."""
    folder = tmp_path / "ilbook"
    monkeypatch.setattr(sources, "PACKAGE", folder)

    def forget():
        sources._module_hash.cache_clear()
        sources._module_imports.cache_clear()

    def write(name, text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        forget()

    write("__init__.py", "__version__ = '1'")
    write("learn.py", "from ilbook.nets.mlp import MLP\n")
    write("nets/__init__.py", "")
    write("nets/mlp.py", "class MLP:\n    width = 8\n")
    write("nets/unet.py", "depth = 3\n")
    write("rollout.py", "def go():\n    from . import control\n")
    write("control.py", "from .nets import unet\n")
    write("viz.py", "import ilbook.stats\n")
    write("stats.py", "level = 0.95\n")
    write("tasks/__init__.py", "import importlib\n\ndef make(name):\n    return importlib.import_module(f'.{name}')\n")
    write("tasks/pusht.py", "")
    write("tasks/pusht.xml", "<mujoco/>")
    write("tasks/common.xml", "<mujoco/>")
    yield write
    forget()


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks" / "1_part").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    manifest = {"pusht": {"sha256": "1"}, "avoid": {"sha256": "2"}}
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def write_notebook(book, *cells, parameters="steps: int = 5  # how long\nseed: int = 0", text="Words."):
    def code(source, *tags):
        return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source.splitlines(keepends=True)}

    cells = [{"cell_type": "markdown", "source": text}, code(parameters, "parameters"), *map(code, cells)]
    path = book / "notebooks" / "1_part" / "01_n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    return path


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("import numpy, ilbook", set()),
        ("import ilbook.learning.fit as learn", {"learn", "nets", "nets.mlp"}),
        ("from ilbook import stats, rollout", {"stats", "rollout", "control", "nets", "nets.unet"}),
        ("from ilbook.nets.mlp import MLP", {"nets", "nets.mlp"}),
        ("def f():\n    from ilbook.stats import wilson", {"stats"}),
        ("from ilbook import viz", set()),
        ("from ilbook import tasks", {"tasks", "tasks.pusht"}),
        ("register('ilbook.nets.unet:UNet')", {"nets", "nets.unet"}),
        ("'a sentence on ilbook.stats in words'", set()),
    ],
)
def test_reachable_from_code(package, code, reached):
    assert sources.reachable(code) == {f"ilbook.{name}" for name in reached}


def test_presentation_counts_when_asked(package):
    assert sources.reachable("import ilbook.page.viz", presentation=True) == {"ilbook.page.viz", "ilbook.stats"}


def test_reachable_from_modules(package):
    assert sources.reachable(["ilbook.control"]) == {"ilbook.control", "ilbook.nets", "ilbook.nets.unet"}


def test_every_real_module_is_hashed():
    names = [
        ".".join(path.relative_to(sources.PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sources.PACKAGE.rglob("*.py")
    ]
    hashes = sources.module_hashes(names, presentation=True)
    assert set(hashes) == set(names) - {"ilbook"}
    assert {"ilbook.page.run", "ilbook.stats"} <= sources.reachable("from ilbook.page.run import Run")


def test_comments_docstrings_and_layout_do_not_count(package):
    code = "import ilbook.learning.fit"
    before = sources.source_hash(code)
    package(
        "nets/mlp.py", '"""A net."""\n\nclass MLP:\n    """Many layers."""\n    width = (\n        8  # wide\n    )\n'
    )
    assert sources.source_hash(code) == before
    package("nets/mlp.py", "class MLP:\n    width = 9\n")
    assert sources.source_hash(code) != before


def test_code_that_is_not_reached_does_not_count(package):
    before = sources.source_hash("import ilbook.learning.fit")
    package("stats.py", "level = 0.9\n")
    package("__init__.py", "__version__ = '2'")
    assert sources.source_hash("import ilbook.learning.fit") == before


@pytest.mark.parametrize(("file", "module"), [("pusht.xml", "ilbook.tasks.pusht"), ("common.xml", "ilbook.tasks")])
def test_data_files_belong_to_their_module(package, file, module):
    before = sources.module_hashes("import ilbook.tasks")
    package(f"tasks/{file}", "<mujoco model='other'/>")
    after = sources.module_hashes("import ilbook.tasks")
    assert [name for name in after if after[name] != before[name]] == [module]


def test_an_edit_after_the_first_hash_is_noticed(package, tmp_path):
    assert sources.edited(sources.module_hashes("import ilbook.learning.fit")) == []
    (tmp_path / "ilbook" / "learn.py").write_text("from ilbook.nets.mlp import MLP  # edited\n")
    assert sources.edited(sources.module_hashes("import ilbook.learning.fit")) == ["ilbook.learning.fit"]


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
def test_different_code_has_different_hashes(one, other):
    assert sources.code_hash(one) != sources.code_hash(other)


def test_only_code_makes_a_notebook_stale(book):
    before = sources.notebook_hashes(write_notebook(book, "x = 1"))
    assert sources.notebook_hashes(write_notebook(book, "x = 1  # one", text="Other words.")) == before
    changed = sources.notebook_hashes(write_notebook(book, "x = 2"))
    assert [part for part in before if before[part] != changed[part]] == ["notebook"]


def test_profile_and_seed_do_not_make_a_notebook_stale_but_other_parameters_do(book):
    before = sources.notebook_hashes(write_notebook(book, "x = 1"))
    other_seed = write_notebook(book, "x = 1", parameters="steps: int = 5\nseed: int = 3")
    assert sources.notebook_hashes(other_seed) == before
    longer = sources.notebook_hashes(write_notebook(book, "x = 1", parameters="steps: int = 6\nseed: int = 0"))
    assert [part for part in before if before[part] != longer[part]] == ["parameters"]
    assert sources.notebook_hashes(write_notebook(book, "x = 1"), {"steps": 6, "seed": 9}) == longer


def test_a_run_has_the_parameters_of_its_kernel(book, monkeypatch):
    import __main__

    path = write_notebook(book, "x = 1")
    monkeypatch.setattr(__main__, "steps", 7, raising=False)
    assert sources.notebook_hashes_of_run("01_n") == sources.notebook_hashes(path, {"steps": 7})
    assert sources.notebook_hashes_of_run("elsewhere") is None


@pytest.mark.parametrize("parameters", ["import os", "steps = 2 * 3", "a = b = 1\nsteps: int"])
def test_parameters_are_literals(book, parameters):
    with pytest.raises(UserError, match=r"01_n\.ipynb: .*parameter"):
        sources.notebook_parameters(write_notebook(book, parameters=parameters))


def test_magics_are_no_code(book):
    path = write_notebook(book, "%%time\n!ls\n  %timeit 1\nx = 5 % 3\n")
    assert sources.code_hash(sources.notebook_code(path, parameters=False)) == sources.code_hash("x = 5 % 3")


def test_what_papermill_injects_is_no_code(book):
    path = write_notebook(book, "x = 1")
    before = sources.notebook_code(path)
    cells = json.loads(path.read_text())
    cells["cells"].append({"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "seed = 3"})
    path.write_text(json.dumps(cells))
    assert sources.notebook_code(path) == before


@pytest.mark.parametrize("content", ["", "{}", '{"cells": 3}'])
def test_a_damaged_notebook_is_named(tmp_path, content):
    path = tmp_path / "n.ipynb"
    path.write_text(content)
    with pytest.raises(UserError, match=r"n\.ipynb cannot be read as a notebook"):
        sources.notebook_code(path)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("data.load('pusht')", {"pusht"}),
        ("ilbook.data.load('avoid')", {"avoid"}),
        ("load('pusht')", {"pusht"}),
        ("data.load(name)", {"pusht", "avoid"}),
        ("np.load(name)\njson.load(file)", set()),
        ("data.load('mine')", set()),
    ],
)
def test_data_is_found_by_name(book, code, names):
    assert set(sources.data_hashes(code)) == names


def test_data_hash_follows_the_manifest(book):
    before = sources.data_hash("data.load('pusht')")
    manifest = book / "data" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"2"', '"3"'))
    assert sources.data_hash("data.load('pusht')") == before
    manifest.write_text(manifest.read_text().replace('"1"', '"3"'))
    assert sources.data_hash("data.load('pusht')") != before


def test_a_damaged_manifest_is_named(book):
    (book / "data" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is not JSON"):
        sources.data_hash("data.load('pusht')")
