"""What one run of one notebook depends on, where its files lie, and whether it has been done before."""

import json
import platform
import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ilbook
from ilbook.page.run import check_seed
from ilbook.page.versions import digest, sha
from ilbook.paths import build, write_file
from ilbook.press import notebook as notebooks
from ilbook.press.notebook import Notebook

PACKAGE = Path(ilbook.__file__).parent
FILES = ("data/manifest.json", "requirements.lock")


@dataclass(frozen=True)
class Plan:
    """One notebook with the parameters it is to run with, and the hashes that decide whether it must run."""

    root: Path
    notebook: Notebook
    profile: str
    parameters: dict[str, object]  # every value of the parameters cell, as it will be
    given: dict[str, object]  # those that differ from the notebook's own
    parts: dict[str, str]

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits over all parts."""
        return digest(self.parts)[:12]

    @property
    def changed(self) -> dict[str, object]:
        """What differs from the notebook's own, but for the profile."""
        return {name: value for name, value in self.given.items() if name != "profile"}

    @property
    def variant(self) -> str:
        """Ending of the file names: another seed or setting never replaces what the book shows."""
        return re.sub(r"[^\w.-]", "_", "".join(f"-{name}{value}" for name, value in self.changed.items()))

    @property
    def folder(self) -> Path:
        """Where executed notebooks of this profile lie."""
        return build(self.root) / "executed" / self.profile

    @property
    def name(self) -> str:
        return self.notebook.id + self.variant

    @property
    def out(self) -> Path:
        """The folder of the run: result.json, provenance.json, videos."""
        return build(self.root) / "runs" / self.notebook.id / (self.profile + self.variant)

    def left(self) -> dict[str, str]:
        """What a finished run left for others to read: name of each file -> its hash."""
        files = (self.file(".ipynb"), self.file(".html"), self.out / "result.json", self.out / "provenance.json")
        return {path.name: sha(path.read_bytes()) for path in files if path.is_file()}

    def file(self, ending: str) -> Path:
        """The executed notebook (".ipynb"), the page (".html") or the record (".json")."""
        return self.folder / (self.name + ending)


def plan(root: Path, path: Path, profile: str, seed: int | None, settings: list[str]) -> Plan:
    """Read the notebook at `path` and work out what its run depends on. UserError for a wrong parameter."""
    book = notebooks.read(path)
    defaults = notebooks.parameters(book)
    wanted = notebooks.override(book, [*([] if seed is None else [f"seed={seed}"]), *settings])
    parameters = {**defaults, "profile": profile, **wanted}
    given = {name: value for name, value in parameters.items() if value != defaults[name]}
    check_seed(parameters["seed"])
    parts = {  # named as one says that they changed
        "the notebook": digest([[cell.kind, cell.source, cell.tags] for cell in book.cells]),
        "the package": _package(),
        **{name: sha((root / name).read_bytes()) for name in FILES if (root / name).exists()},
        "the Python version": platform.python_version(),
        "its parameters": digest(parameters),
    }
    return Plan(root, book, profile, parameters, given, parts)


@cache
def _package() -> str:
    """One hash over all code and models of the package, but for the press, which only prints."""
    files = {file.relative_to(PACKAGE): file for end in ("py", "xml") for file in PACKAGE.rglob(f"*.{end}")}
    return digest({str(name): sha(file.read_bytes()) for name, file in files.items() if name.parts[0] != "press"})


def load(plan: Plan) -> tuple[dict | None, str]:
    """The record of the last finished run if it can be used, else None; and what changed since then, in words.

    It can be used if all that it depends on is the same, and if what it left still lies there untouched.
    """
    try:
        record = json.loads(plan.file(".json").read_text(encoding="utf-8"))
        before, left = record["parts"] | record["files"], plan.left()
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""
    if len(left) < 3:  # pages and result; only a page that calls no Run has no provenance
        return None, ""
    now = plan.parts | left
    changed = [part for part in now | before if before.get(part) != now.get(part)]
    return None if changed else record, " and ".join(changed)


def save(plan: Plan, row: dict) -> None:
    """Remember a finished run, at once, so that an interrupted session can go on from here."""
    kept = {key: row[key] for key in ("seconds", "peak_mb", "claims")}
    kept |= {"parts": plan.parts, "files": plan.left(), "time": time.time()}
    write_file(plan.file(".json"), json.dumps(kept, indent=1) + "\n")
