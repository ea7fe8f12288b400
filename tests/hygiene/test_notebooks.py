"""Every notebook keeps the rules, and every rule notices the notebook that breaks it."""

import json
from pathlib import Path

import pytest

from ilbook.press import hygiene, notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = notebook.paths(ROOT)
CLAIM = (
    'Claim(id="a-wins", sentence="A wins.", method="action-chunking", policy="a",\n'
    '      baseline="b", metric="success", direction="higher", minimum=0.1, source="T 1")'
)
SET_UP = (
    "import ilbook\nfrom ilbook.page import check\nfrom ilbook.page.run import Run\n\n"
    'run = Run.start("{}", profile, seed)'
)
TABLES = (
    "## The idea\n\n$$\na = g(o)\n$$\n\n| symbol | code | meaning |\n|---|---|---|\n| $o$ | `obs` | what is seen |\n\n"
    "| part | change |\n|---|---|\n"
) + "".join(
    f"| {name} | the same |\n" for name in ("data", "loss", "architecture", "sampler", "controller", "collection")
)


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebook was found: the checks below would pass without checking anything"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path):
    assert [str(problem) for problem in hygiene.check([path])] == []


def test_notebooks_share_no_code_and_no_name():
    assert [str(problem) for problem in hygiene.check(NOTEBOOKS) if problem.rule in ("copy", "name")] == []


@pytest.fixture
def clean(book, make_cell):
    """The cells of a notebook that keeps every rule, and a function that writes it with changes and checks it."""
    prose = "Words of a page explain what the code does. " * 20
    head = 'profile: str = "lecture"  # smoke, lecture or full\nseed: int = 0  # fixes every number'
    cells = {
        "title": make_cell("markdown", "# A title\n\nOne sentence."),
        "goals": make_cell("markdown", "## What you will learn\n\n" + prose),
        "parameters": make_cell("code", head, "parameters"),
        "set-up": make_cell("code", SET_UP.format("01_page")),
        "claims": make_cell("markdown", "## Claims\n\n" + prose),
        "declare": make_cell("code", f"from ilbook.page.claims import Claim\n\nrun.declare({CLAIM})"),
        "baseline": make_cell("markdown", "## The baseline: regression\n\n$$\na = f(o)\n$$\n"),
        "guess": make_cell("code", 'check.predict("1", ["yes", "no"])\ncheck.predict("2", ["yes", "no"])', "predict"),
        "failure": make_cell("code", "print(run)", "failure"),
        "idea": make_cell("markdown", TABLES),
        "ask": make_cell("code", "\n".join([f'check.concept("{q}", {{}})' for q in "abc"]), "concept"),
    }
    cells |= {f"step {number}": make_cell("code", f"x{number} = {number}") for number in range(12)}
    cells |= {f"text {number}": make_cell("markdown", f"### Part {number}\n\n{prose}") for number in range(7)}
    cells |= {
        "judge": make_cell("code", 'run.judge("a-wins", table)'),
        "fails": make_cell("markdown", "## Where it fails, and what we changed from the paper\n\n" + prose),
        "exercises": make_cell("markdown", "## Exercises\n\n" + prose),
        "check": make_cell("code", 'answer = ...\ncheck.exercise("1", answer)', "exercise"),
        "end": make_cell("markdown", "## Summary and references\n\n" + prose),
        "finish": make_cell("code", "run.finish()"),
    }

    def problems(name="01_page", part="2_methods", **changes):
        """Broken rules after `changes`: the name of a cell -> new source, a changed cell, or None to leave it out."""
        changed = dict(cells)
        for key, change in changes.items():
            key = key.replace("_", "-") if key.replace("_", "-") in cells else key.replace("_", " ")
            if change is None:
                del changed[key]
            else:
                base = changed.get(key, make_cell("code", ""))
                changed[key] = change if isinstance(change, dict) else {**base, "source": change}
        path = book.add(name, *changed.values(), part=part)
        return hygiene.check([path])

    return problems


def test_a_clean_notebook_has_no_problem(clean):
    assert clean() == []


def code(source, *tags, **extra):
    return {
        "cell_type": "code", "metadata": {"tags": list(tags)} if tags else {}, "source": source, "outputs": [],
        "execution_count": None, **extra,
    }  # fmt: skip


def text(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


STREAM = {"output_type": "stream", "name": "stdout", "text": "1"}
LEAKS = [  # every way to bind a name at the top of a cell, in cells with each of the five tags
    ("x = 1", "exercise"),
    ("y, (x, *z) = 1, (2, 3)", "predict"),
    ("x: int = 1", "concept"),
    ("import numpy as x", "player"),
    ("from numpy import pi as x", "hide-input"),
    ("def x():\n    pass", "exercise"),
    ("class x:\n    pass", "exercise"),
    ("for x in range(3):\n    pass", "hide-input"),
    ("with open('a') as x:\n    pass", "hide-input"),
    ("x = 0\nx += 1", "hide-input"),
    ("print(x := 1)", "hide-input"),
    ("print([x := y for y in range(3)])", "hide-input"),
    ("if run:\n    x = 1", "hide-input"),
]
FUNCTION = "def fit(model, data):\n    a = 1\n    b = 2\n    c = 3\n    d = 4\n    return a + b + c + d"
BROKEN = [  # rule, words of the message, change
    ("name", "not called N_part/NN_slug", {"name": "01-Page", "set_up": SET_UP.format("01-Page")}),
    ("name", "not called N_part/NN_slug", {"part": "methods"}),
    ("clean", "has outputs", {"step_1": code("1", outputs=[STREAM])}),
    ("clean", "counts", {"step_1": code("1", execution_count=3)}),
    ("clean", "metadata of an editor", {"step_1": code("1") | {"metadata": {"collapsed": True}}}),
    ("tags", "nearest valid name: 'hide-input'", {"step_1": code("1", "hide-imput")}),
    ("title", "not a title", {"title": "Just text"}),
    ("title", "one sentence below it", {"title": "# A title\n"}),
    ("title", "second title", {"text_1": "# Another\n\nText"}),
    ("parameters", "has no cell with the tag", {"parameters": code('profile = "lecture"')}),
    ("parameters", "first code cell, and no other", {"step_1": code("n: int = 1  # n", "parameters")}),
    ("parameters", "first code cell, and no other", {"goals": code("1")}),
    (
        "parameters",
        "is not `name: type = literal",
        {"parameters": 'profile: str = "lecture"  # a\nseed: int = 0  # b\nn = 3'},
    ),
    (
        "parameters",
        "literals only",
        {"parameters": 'profile: str = "lecture"  # a\nseed: int = 0  # b\nn: int = f()  # c'},
    ),
    ("parameters", "has no comment", {"parameters": 'profile: str = "lecture"  # a\nseed: int = 0'}),
    ("parameters", "set it back", {"parameters": 'profile: str = "smoke"  # a\nseed: int = 0  # b'}),
    ("parameters", "set it back", {"parameters": 'profile: str = "lecture"  # a\nseed: int = 7  # b'}),
    ("set-up", "does not call", {"set_up": SET_UP.format("02_other")}),
    ("set-up", "does not begin with import ilbook", {"set_up": "import torch\n" + SET_UP.format("01_page")}),
    ("set-up", "does not begin with import ilbook", {"set_up": SET_UP.format("01_page").removeprefix("import ilbook")}),
    ("sentinel", "exactly run.finish()", {"finish": "run.finish(); print(1)"}),
    ("sentinel", "exactly run.finish()", {"finish": None}),
    ("sentinel", "and no other", {"step_3": "run.finish()"}),
    ("size", "has 26 lines in its longest", {"step_1": "\n".join(["x = 1"] * 26)}),
    ("size", "code cells", {f"step_{number}": None for number in range(12)}),
    ("size", "median", {f"step_{number}": "\n".join(["x = 1"] * 11) for number in range(12)}),
    (
        "size",
        "lines of code",
        {f"more {number}": code("\n".join(["x = 1"] * 25)) for number in range(14)} | {"finish": None},
    ),
    ("sections", "no section on learning goals", {"goals": "## Start\n\n" + "word " * 160}),
    ("sections", "no section on exercises", {"exercises": "## Tasks\n\n" + "word " * 160}),
    (
        "sections",
        "no section on exercises in its place",
        {
            "text_1": "## Exercises\n",
            "exercises": "## Tasks\n\n" + "word " * 200,
            "fails": None,
            "text_2": "## Where it fails, and what we changed\n\n" + "word " * 160,
        },
    ),
    ("tables", "no table from symbols to code", {"idea": TABLES.replace("symbol", "sign")}),
    ("tables", "no row sampler, collection", {"idea": TABLES.replace("sampler", "x").replace("collection", "y")}),
    ("size", "words; 1500 to 3000 are right", {f"text_{number}": "A word." for number in range(7)}),
    ("size", "words; 1500 to 3000 are right", {"goals": "## What you will learn\n\n" + "word " * 3000}),
    ("typed-number", "'43 %'", {"text_1": "### Result\n\nThe clone succeeds in 43 % of the episodes."}),
    ("forbidden", "![](figure.png) has no alt text", {"text_1": "![](figure.png)"}),
    ("forbidden", "loaded from the web", {"text_1": "![A robot](https://example.org/a.png)"}),
    ("forbidden", "no alt text", {"text_1": '<img src="a.png">'}),
    ("forbidden", "an attached file", {"text_1": "![A robot](attachment:a.png)"}),
    ("forbidden", "loaded from the web", {"text_1": '<script src="https://example.org/a.js">'}),
    ("forbidden", "!pip install x is no Python", {"step_1": "!pip install x"}),
    ("forbidden", "without shell lines and magics", {"step_1": "%matplotlib inline"}),
    ("forbidden", "write plain Python", {"step_1": "%%bash\nls"}),
    ("invalid-syntax", "line 1: ", {"step_1": "x = = 1"}),
    ("return-outside-function", "`return` statement outside", {"step_1": "return 1"}),
    ("undefined-local-with-import-star", "import *", {"step_1": "from numpy import *"}),
    ("unused-import", "`numpy` imported but unused", {"step_1": "import numpy as np"}),
    ("profile", "`profile` is used", {"step_1": 'n = 3 if profile == "full" else 2'}),
    ("profile", "`run.profile` is used", {"step_1": "print(run.profile)"}),
    ("forbidden", '"/home/reader/data" is an absolute path', {"step_1": 'open("/home/reader/data")'}),
    ("forbidden", '"~/data" is an absolute path', {"step_1": 'open("~/data")'}),
    ("forbidden", "absolute path", {"step_1": r'open("C:\\data")'}),
    ("forbidden", "is a web address", {"step_1": 'load("https://example.org")'}),
    ("banned-api", "`urllib` is banned: a notebook needs no network", {"step_1": "import urllib.request"}),
    ("banned-api", "`subprocess` is banned", {"step_1": "from subprocess import run as start"}),
    ("banned-api", "`pickle` is banned: use safetensors", {"step_1": "import pickle"}),
    ("banned-api", "`os.system` is banned", {"step_1": 'import os\nos.system("ls")'}),
    ("banned-api", "`torch.load` is banned", {"step_1": 'import torch\ntorch.load("a.pt")'}),
    ("banned-api", "`numpy.random` is banned: use run.rng", {"step_1": "import numpy as np\nnp.random.rand(3)"}),
    ("banned-api", "`numpy.random` is banned", {"step_1": "import numpy as np\nnp.random.default_rng()"}),
    ("banned-api", "`numpy.random` is banned", {"step_1": "from numpy.random import default_rng"}),
    ("banned-api", "`torch.manual_seed` is banned", {"step_1": "import torch\ntorch.manual_seed(0)"}),
    ("banned-api", "`random` is banned", {"step_1": "import random  # noqa"}),
    ("banned-api", "`sys.exit` is banned: a notebook ends", {"step_1": "import sys\nsys.exit(0)"}),
    ("sys-exit-alias", "`exit`", {"step_1": "exit()"}),
    ("forbidden", "SystemExit has no place here", {"step_1": "raise SystemExit(0)"}),
    ("forbidden", "get_ipython has no place here", {"step_1": 'get_ipython().system("ls")'}),
    ("line-too-long", "line 2: Line too long (89 > 88)", {"step_1": f"x = 1\ny = {'x + ' * 21}1"}),
    ("banned-module-level-imports", "`dask` is banned at the module level", {"step_1": "import dask"}),
    ("claims", "is computed", {"declare": f"run.declare({CLAIM.replace('0.1', 'least')})"}),
    ("teaching", "has 1 check.predict(...)", {"guess": code('check.predict("1", [])', "predict")}),
    ("teaching", "has 0 check.concept(...)", {"ask": None}),
    ("teaching", "has 0 check.exercise(...)", {"check": None}),
    ("teaching", "calls check.predict without the tag", {"step_1": 'check.predict("3", [])'}),
    ("teaching", "calls check.concept without the tag", {"ask": code("check.concept('a', {})", "predict")}),
    ("teaching", "has the tag and calls nothing", {"step_1": code("x = 1", "exercise")}),
    ("teaching", "the guess '3' when the result", {"check": code('check.predict("3", [])', "predict")}),
    ("teaching", "the guess '1' when the result", {"claims": code('check.outcome("1", run)')}),
    *(("leak", "binds x, which cell", {"step_1": code(line, tag), "step_5": "print(x)"}) for line, tag in LEAKS),
    ("leak", "binds x", {"step_1": "def f():\n    return x", "step_2": code("x = 1", "player"), "step_3": "f()"}),
    ("leak", "binds x, which cell", {"step_1": code("x = 1", "predict"), "step_2": "class A:\n    y = x"}),
    ("leak", "binds x, which cell", {"step_1": code("x = 1", "predict"), "step_2": "x += 1"}),
    ("failure-first", "no code cell has the tag 'failure'", {"failure": code("print(run)")}),
    ("failure-first", "formula before the failure", {"baseline": "## The method\n\n$$\na\n$$"}),
    ("failure-first", "formula before", {"baseline": "## Regression\n\n## The cure\n\n```{math}\na\n```"}),
    ("failure-first", "formula before the failure", {"failure": code("1"), "step_1": code("print(run)", "failure")}),
]


@pytest.mark.parametrize(
    ("rule", "words", "change"), BROKEN, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(BROKEN)]
)
def test_a_rule_notices_what_breaks_it(clean, rule, words, change):
    found = [problem for problem in clean(**change) if problem.rule == rule]
    assert any(words in problem.message for problem in found), found


def test_every_rule_has_a_notebook_that_breaks_it():
    rules = {rule.__name__.replace("_", "-") for rule in hygiene.rules.RULES}
    assert rules <= {rule for rule, _, _ in BROKEN} | {"file-format", "draft"}


def test_what_is_allowed_stays_allowed(clean):
    allowed = {
        "step_1": 'ratio = "m/s"; label = "a / b"; share = 50 % 7',
        "step_2": "try:\n    import dask\n\n    print(dask)\nexcept ImportError:\n    print('install the extra scale')",
        "step_3": "steps = run.pick(smoke=1, lecture=2, full=3)",
        "step_4": 'rng = run.rng("starts")',
        "step_5": code('fig = check.exercise("2", fig)\n' * 60, "exercise"),
        "step_6": "fig = 1\nprint(fig, [fig for fig in range(3)], lambda fig: fig)",
        "step_7": "def f(fig):\n    return fig\n\n\nprint(fig)",
        "text_1": "### Elsewhere\n\nThe paper reports 43 % {cite}`chi2023`. An interval of 95 % is not a result. " * 12,
    }
    assert clean(**allowed) == []


def test_a_foundation_page_needs_no_table_of_changes(clean):
    assert clean(part="1_foundations", idea=TABLES.split("| part")[0]) == []


def test_a_file_without_ids_or_with_another_kernel_is_noticed(clean, book):
    clean()
    path = book.root / "notebooks" / "2_methods" / "01_page.ipynb"
    content = json.loads(path.read_text())
    content["cells"][1]["id"] = content["cells"][0]["id"]
    content["metadata"]["kernelspec"]["name"] = "my-env"
    content["nbformat_minor"] = 4
    path.write_text(json.dumps(content))
    assert [problem.rule for problem in hygiene.check([path])] == ["file-format"] * 2


def test_a_draft_may_be_short_and_is_reported(clean, book):
    short = dict.fromkeys([*(f"step_{n}" for n in range(9)), *(f"text_{n}" for n in range(5))])
    assert sorted(problem.rule for problem in clean(**short)) == ["size", "size"]
    path = book.root / "notebooks" / "2_methods" / "01_page.ipynb"
    content = json.loads(path.read_text())
    content["metadata"]["ilbook"] = {"kind": "draft"}
    path.write_text(json.dumps(content))
    (problem,) = hygiene.check(notebook.paths(book.root))
    assert str(problem) == "01_page.ipynb: is a draft; remove kind from its metadata when it is finished [draft]"


def test_code_that_two_notebooks_share_is_noticed(clean, book):
    assert clean(step_1=FUNCTION) == []
    assert clean(name="02_page", set_up=SET_UP.format("02_page"), step_1=f"# other\n{FUNCTION}") == []
    (problem,) = hygiene.check(notebook.paths(book.root))
    assert problem.rule == "copy" and "fit also stands in 01_page.ipynb" in problem.message


def test_a_copy_from_the_policies_is_noticed(clean):
    (problem,) = clean(step_1="class MLPPolicy:\n    pass")
    assert problem.rule == "copy" and "MLPPolicy also stands in ilbook/policies/bc.py" in problem.message


def test_strip_leaves_a_clean_file_and_nothing_else_changes(clean, book):
    clean(step_1=code("1", outputs=[STREAM], execution_count=3) | {"metadata": {"collapsed": True}})
    path = book.root / "notebooks" / "2_methods" / "01_page.ipynb"
    content = json.loads(path.read_text())
    content["metadata"]["widgets"] = {}
    content["cells"].insert(3, code("# Parameters\nseed = 3", "injected-parameters") | {"id": "injected"})
    path.write_text(json.dumps(content, indent=1) + "\n")
    before = notebook.read(path)
    assert hygiene.strip(path)
    after = notebook.read(path)
    kept = [cell.source for cell in before.cells if "injected-parameters" not in cell.tags]
    assert [cell.source for cell in after.cells] == kept
    assert hygiene.check([path]) == []
    assert not hygiene.strip(path), "a clean file is not written again"
