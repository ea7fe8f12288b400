"""Every part of the package behaves as it did when its trace was recorded, and every trace shows most of its part."""

import ast
import functools
import importlib
import inspect
import json
from pathlib import Path

import coverage
import pytest

import ilbook
from ilbook import tasks
from ilbook.errors import UserError
from ilbook.page import versions
from tests.golden import __main__ as recorder
from tests.golden import registry

PACKAGE = Path(ilbook.__file__).parent
ROOMS = (
    "tasks", "experts", "nets", "generative", "policies", "learning", "control", "rollout", "stats", "rl", "failure",
)  # fmt: skip
ALSO = ("data.normalise", "data.windows")  # of the rooms that otherwise change no number
# Rooms whose traces are still to be written; what is missing there is an expected failure.
AWAITED = ("tasks", "experts")
LEAST = 0.9  # of the lines of a part that its trace runs


def file_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def modules() -> list[str]:
    """All modules that a number can depend on and that hold code."""
    files = [file for room in ROOMS for file in sorted((PACKAGE / room).rglob("*.py"))]
    names = [".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in (*names, *ALSO) if countable(name)]


@functools.cache
def countable(module: str) -> frozenset[range]:
    """The lines of each statement that a trace should run: of those in functions, but for what ends in an error."""
    functions = (node for node in ast.walk(ast.parse(file_of(module).read_text())) if isinstance(node, ast.FunctionDef))
    return frozenset(lines for function in functions for lines in statements(function.body))


def statements(block: list[ast.stmt]):
    """The lines of each statement of a block and of the blocks in it; of one with a block only its head."""
    for one in block:
        match one:
            case ast.Raise() | ast.Expr(value=ast.Constant()) | ast.Pass() | ast.Global() | ast.Nonlocal():
                continue
            case ast.AnnAssign(value=None):  # does nothing
                continue
        cases = [*getattr(one, "handlers", []), *getattr(one, "cases", [])]
        blocks = [getattr(one, name, []) for name in ("body", "orelse", "finalbody")] + [case.body for case in cases]
        first = min((inner[0].lineno for inner in blocks if inner), default=one.end_lineno + 1)
        yield range(one.lineno, max(first, one.lineno + 1))
        for inner in blocks:
            if inner and not isinstance(inner[-1], ast.Raise):
                yield from statements(inner)


@functools.cache
def played(part: str) -> tuple[dict, set[str], dict[str, set[int]]]:
    """What a part does, which parts announced themselves meanwhile, and the lines of the package that ran."""
    registry.traces()
    module = part.partition(":")[0]
    for value in vars(importlib.import_module(f"ilbook.{module}")).values():
        for kept in (value, *(vars(value).values() if inspect.isclass(value) else ())):
            if isinstance(kept, functools._lru_cache_wrapper) and kept.__module__ == f"ilbook.{module}":
                kept.cache_clear()  # else what an earlier trace left would keep lines from running
    watch = coverage.Coverage(data_file=None, config_file=False, include=[f"{PACKAGE}/*"])
    watch.start()
    try:
        golden, announced = registry.run(part)
    finally:
        watch.stop()
    data = watch.get_data()
    return golden, announced, {file: set(data.lines(file)) for file in data.measured_files()}


def share(module: str, parts: list[str]) -> tuple[float, str]:
    """The share of a module's lines that the traces of `parts` run, and the lines that they leave out."""
    wanted, ran = countable(module), set()
    for part in parts:
        ran |= played(part)[2].get(str(file_of(module)), set())
    left = sorted(lines.start for lines in wanted if ran.isdisjoint(lines))
    return 1 - len(left) / len(wanted), f"ilbook/{file_of(module).relative_to(PACKAGE)}, lines {left}"


@pytest.mark.parametrize("part", registry.chosen([]))
def test_no_part_behaves_otherwise_than_recorded(part):
    words = registry.moved(versions.read_golden(part), played(part)[0])
    assert not words, (
        f"{part} behaves otherwise than tests/golden/{versions.golden_file(part).name} says:\n  "
        + "\n  ".join(words)
        + f"\nIf that is meant, type: make golden PART={part} (results that used it are then stale)"
    )


@pytest.mark.parametrize("part", registry.chosen([]))
def test_a_trace_runs_its_part_which_announces_itself(part):
    assert part in played(part)[1], f"{part} is used by its trace, but does not announce itself; see ilbook/used.py"
    if ":" not in part:
        covered, left = share(part, [other for other in registry.traces() if other.partition(":")[0] == part])
        assert covered >= LEAST, f"the trace of {part} runs {covered:.0%} of its part; not yet: {left}"


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_trace(module):
    if module in registry.traces():
        return
    if module in versions.covered():
        covered, left = share(module, list(registry.traces()))
        problem = f"other traces run {covered:.0%} of {module}; not yet: {left}" if covered < LEAST else ""
    else:
        room = module.partition(".")[0]
        problem = (
            f"{module} has no trace: write one in tests/golden/traces/{room}.py and type: make golden PART={module} "
            f"(or, if others run its lines and no notebook uses it alone, list it in {versions.COVERED})"
        )
    if problem and module.partition(".")[0] in AWAITED:
        pytest.xfail(problem)
    assert not problem, problem


@pytest.mark.parametrize("task", tasks.names())
def test_every_perturbation_has_a_trace(task):
    wanted = {f"tasks.{task}:{name}" for name in tasks.get(task).perturbations}
    missing = sorted(wanted - registry.traces().keys())
    if missing and "tasks" in AWAITED:
        pytest.xfail(f"no trace of {', '.join(missing)}")
    assert not missing, f"write traces of {', '.join(missing)} in tests/golden/traces/tasks.py, then make golden"


def test_nothing_is_on_record_that_does_not_exist():
    on_record = {file.name for file in versions.GOLDEN.glob("*.*.json")}
    extra = on_record - {versions.golden_file(part).name for part in registry.traces()}
    assert not extra, f"git rm tests/golden/{', '.join(sorted(extra))}: no trace belongs to it"
    listed = versions.covered()
    assert not listed.keys() & registry.traces().keys(), f"{versions.COVERED} lists modules that have a trace"
    assert listed.keys() <= set(modules()), f"{versions.COVERED} lists modules that do not exist"
    assert all(reason.strip() for reason in listed.values())


# -- the machinery ----------------------------------------------------------------------------------------------------
@pytest.fixture
def part(golden, monkeypatch):
    """A part "nets.small" whose trace gives what the returned list holds; nothing is on record yet."""
    values = {"loss": [0.5, 0.25], "name": "small"}
    golden({})
    monkeypatch.setattr(registry, "_traces", {})
    monkeypatch.setattr(registry, "traces", lambda: registry._traces)
    registry.trace("nets.small", tolerance=1e-4)(lambda: values)
    return values


def test_a_part_is_recorded_once_and_again_only_when_it_moved(part, capsys):
    assert recorder.main([]) == 0 and "nets.small: none -> " in capsys.readouterr().out
    first = versions.golden_file("nets.small").read_text()
    assert json.loads(first) == {
        "part": "nets.small", "tolerance": 1e-4, "trace": {"loss": [0.5, 0.25], "name": "small"},
    }  # fmt: skip
    part["loss"] = [0.50004, 0.25]
    assert registry.compare("nets.small") == []
    assert recorder.main(["nets"]) == 0 and "nets.small: unchanged" in capsys.readouterr().out
    assert versions.golden_file("nets.small").read_text() == first, "what is within the tolerance makes nothing stale"
    part["loss"] = [0.5, 0.26]
    (words,) = registry.compare("nets.small")
    assert words == "loss[1]: 0.25 -> 0.26, 0.01 apart (allowed 0.0001), 1 of 2 numbers moved"
    assert recorder.main(["nets.small"]) == 0
    out = capsys.readouterr().out
    assert words in out and "1 recorded anew" in out and registry.compare("nets.small") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": [0.5]}, "loss: shape (2,) -> (1,)"),
        ({"name": "large"}, "name: small -> large"),
        ({"name": 3}, "name: small -> 3"),
        ({"more": 1}, "more: new"),
        ({"loss": [0.5, float("nan")]}, "loss[1]: 0.25 -> nan, inf apart (allowed 0.0001), 1 of 2 numbers moved"),
        ({"loss": float("inf")}, "loss: shape (2,) -> ()"),
    ],
)
def test_what_moved_is_told(part, change, words):
    registry.record("nets.small")
    part |= change
    assert registry.compare("nets.small") == [words]


def test_what_is_gone_is_told(part):
    registry.record("nets.small")
    del part["name"]
    assert registry.compare("nets.small") == ["name: gone"]


def test_numbers_that_are_not_finite_are_behaviour_too(part):
    part["loss"] = [float("nan"), float("inf")]
    registry.record("nets.small")
    assert registry.compare("nets.small") == []


def test_a_trace_of_objects_is_refused(part):
    part["loss"] = object()
    with pytest.raises(UserError, match=r"the trace of nets\.small has loss of type object"):
        registry.make("nets.small")


def test_two_traces_of_one_part_are_refused(part):
    with pytest.raises(UserError, match=r"nets\.small has two traces"):
        registry.trace("nets.small")(dict)


def test_an_unknown_part_gets_the_nearest_name(part):
    with pytest.raises(UserError, match=r"unknown part 'nets\.smal'; nearest valid name: 'nets\.small'"):
        registry.chosen(["nets.smal"])


def cut(text):
    return text[:-9]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            None,
            r"nets\.small\.json is missing, .*FileNotFound.* from git, or type: make golden PART=nets\.small",
        ),
        (cut, r"nets\.small\.json is missing, damaged or .*JSONDecodeError"),
        (lambda _: "[]", r"nets\.small\.json is missing, damaged or .*TypeError"),
        (lambda _: "{}", r"nets\.small\.json is missing, damaged or .*KeyError"),
        (lambda text: text.replace("nets.small", "nets.large"), "of another part .*it holds the trace of nets.large"),
    ],
)
def test_a_bad_file_is_one_sentence_and_can_be_recorded_again(part, spoil, words):
    registry.record("nets.small")
    file = versions.golden_file("nets.small")
    good = file.read_text()
    if spoil is None:
        file.unlink()
    else:
        file.write_text(spoil(good))
    with pytest.raises(UserError, match=words) as caught:
        registry.compare("nets.small")
    assert "\n" not in str(caught.value)
    registry.record("nets.small")
    assert file.read_text() == good
