"""Every command of README.md exists; the cheap ones are run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ilbook.draw import gl

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
QUICK = ["ilbook claims", "ilbook methods", "ilbook tasks", "ilbook data check", "ilbook hygiene", "make help"]


def commands() -> list[str]:
    """The lines of the shell blocks, without remarks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


COMMANDS = commands()


def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=120
    )


def test_there_are_commands_to_check():
    assert {"make run", "make test"} <= set(COMMANDS)
    assert set(QUICK) <= set(COMMANDS), "a command that is tried here is no longer in README.md"


def test_every_line_is_of_a_known_kind():
    known = ("make ", "ilbook ", "conda ", ". .venv/bin/activate", "sudo apt-get install ")
    assert not [line for line in COMMANDS if not line.startswith(known)]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_make_knows_the_target(line):
    (target,) = shlex.split(line)[1:]
    assert target in targets()
    assert run("make", "--dry-run", target).returncode == 0


def test_every_target_is_explained():
    helped = run("make", "help").stdout
    for target in targets():
        assert re.search(rf"^  {target}\s+\w", helped, flags=re.MULTILINE), f"make help says nothing about {target}"


@pytest.mark.parametrize("line", sorted({line for line in COMMANDS if line.startswith("ilbook ")}))
def test_the_command_line_understands_it(line):
    """Parse the whole line, and ask for help on it."""
    from ilbook.press import cli

    words = shlex.split(line)[1:]
    arguments = cli._parser().parse_args(words)
    assert callable(arguments.handler)
    done = run(sys.executable, "-m", "ilbook.press.cli", *words, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: ilbook {words[0]}"), done.stderr


@pytest.mark.parametrize("name", sorted(set(re.findall(r"ilbook run (\w+)", TEXT))))
def test_named_notebooks_exist(name):
    assert list(ROOT.glob(f"notebooks/*/{name}.ipynb"))


@pytest.mark.parametrize("line", QUICK)
def test_cheap_commands_run(line):
    done = run(*shlex.split(line))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_apt_packages_are_those_of_the_code():
    (line,) = [line for line in COMMANDS if line.startswith("sudo apt-get")]
    assert line == f"sudo apt-get install -y {gl.APT_PACKAGES}"


def test_conda_lines_name_our_environment():
    lines = [line for line in COMMANDS if line.startswith("conda ")]
    assert lines == ["conda env create -f environment.yml", "conda activate ilbook"]


def test_named_places_exist():
    """Paths in the tables and the text; what lies under build/ is made, and data/outside/ is the reader's."""
    names = set(re.findall(r"`((?:ilbook|notebooks|data|tests)/[\w/.]*|[A-Z]+(?:\.md)?|requirements\.lock)`", TEXT))
    paths = {name for name in names if "/" in name or "." in name or name == "LICENSE"}
    assert len(paths) > 15
    later = ("data/results", "data/outside")
    assert not [name for name in paths if not name.startswith(later) and not (ROOT / name).exists()]


def test_settings_named_in_the_text_are_read_by_the_code():
    for name in set(re.findall(r"\b(ILBOOK_[A-Z]+|PIP_ARGS)\b", TEXT)):
        sources = [*ROOT.glob("ilbook/**/*.py"), ROOT / "Makefile"]
        assert any(name in path.read_text() for path in sources), f"{name} is in README.md only"
