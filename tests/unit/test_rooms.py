"""The house of DESIGN section 2: which room may import which, how long everything is, and what a policy drags along."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ilbook"
ROOMS = (  # from the ground up; a room imports only from those before it
    "errors", "paths", "used", "draw", "tasks", "data", "nets", "generative", "policies", "learning", "control",
    "experts", "rollout", "stats", "rl", "failure", "page", "formats", "teleop", "robot", "web", "press",
)  # fmt: skip
AROUND = {"formats", "teleop", "robot", "web", "press"}  # what is not the heart
MOST_LINES = 400
HEART, ALL = 7_500, 13_500  # no further
FORBIDDEN = ("tasks", "draw", "rollout", "page", "press")


def modules() -> dict[str, Path]:
    """Dotted name (without "ilbook.") of every module, and its file."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    found.pop("")  # the package itself: the version, and what has to stand before torch
    return found


MODULES = modules()


def imported(module: str) -> set[str]:
    """Modules of the package that a module imports, inside functions too; what is only for type checkers aside."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            for alias in node.names:  # a module of a package, or something that stands in a module
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole.removeprefix("ilbook.") in MODULES else node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("ilbook.") for name in names if name.startswith("ilbook.")} & MODULES.keys() - {module}


GRAPH = {module: imported(module) for module in MODULES}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_lies_in_a_room():
    assert {room(module) for module in MODULES} <= set(ROOMS)


def test_no_arrow_runs_back():
    back = [
        f"{module} -> {other}"
        for module, others in GRAPH.items()
        for other in others
        if ROOMS.index(room(other)) > ROOMS.index(room(module))
    ]
    assert not back


def test_there_is_no_circle():
    left = {module: set(others) for module, others in GRAPH.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"among these some import each other: {', '.join(sorted(left))}"


def lines(names) -> int:
    return sum(len(MODULES[name].read_text(encoding="utf-8").splitlines()) for name in names)


def test_modules_are_short_and_the_house_small():
    long = {name: lines([name]) for name in MODULES if lines([name]) > MOST_LINES}
    assert not long
    assert lines(name for name in MODULES if room(name) not in AROUND) < HEART
    assert lines(MODULES) < ALL


def reach(module: str) -> set[str]:
    """Everything that importing a module may bring along, the packages on the way included."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in found or name not in MODULES:
            continue
        found.add(name)
        todo += [*GRAPH[name], name.rpartition(".")[0]]
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) == "policies"])
def test_a_policy_reaches_little(module):
    found = reach(module)
    assert len(found) <= 12, sorted(found)
    assert not {room(name) for name in found} & set(FORBIDDEN)


@pytest.mark.parametrize("module", ["ilbook.policies.bc", "ilbook.data.episodes"])
def test_learning_needs_no_simulator(module):
    heavy = ("mujoco", "pandas", "matplotlib", "gymnasium", *(f"ilbook.{name}" for name in FORBIDDEN))
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def picture() -> str:
    """The arrows between rooms, as text: `python tests/unit/test_rooms.py`."""
    rows = []
    for name in ROOMS:
        mine = [module for module in MODULES if room(module) == name]
        if mine:
            to = sorted({room(other) for module in mine for other in GRAPH[module]} - {name}, key=ROOMS.index)
            rows.append(f"{name:10s} {lines(mine):5d} lines in {len(mine):2d}  <- {' '.join(to)}")
    return "\n".join(rows)


if __name__ == "__main__":
    print(picture())
