"""Build the site: pages and executed notebooks are put together in build/stage, Jupyter Book makes build/site."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ilbook import paths
from ilbook.errors import UserError
from ilbook.press import generated, record, solutions
from ilbook.press import notebook as notebooks

CONFIGURATION = ("_config.yml", "_toc.yml", "references.bib")
ASSETS = "book_assets"
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
MADE = (generated.ledger, generated.method_map, generated.data_sets, generated.plain_policies)
OPTIONS = ("--all", "--quiet", "--warningiserror", "--nitpick", "--keep-going")
MOST_WARNINGS = 12
COLOUR = re.compile("\x1b\\[[0-9;]*m")


def build(profile: str = "lecture") -> Path:
    """Build the site from executed notebooks; its folder. UserError if one is out of date, or for a warning."""
    top = paths.root()
    stage = put_together(top, profile)
    output, log = paths.build() / "book", paths.build() / "book.log"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(stage), "--path-output", str(output), *OPTIONS]
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=environment)
    said = COLOUR.sub("", done.stdout).replace(f"{stage}/", "")
    log.write_text(said, encoding="utf-8")
    if done.returncode:
        shown = "\n  ".join(said.splitlines()[-MOST_WARNINGS:])
        raise UserError(f"the site was not built; correct the pages and build again (all of it: {log}):\n  {shown}")
    # Numbers of a smoke run mean nothing, so its site must not stand where readers look.
    site = paths.build() / ("site-smoke" if profile == "smoke" else "site")
    shutil.rmtree(site, ignore_errors=True)
    (output / "_build" / "html").replace(site)
    shutil.rmtree(output, ignore_errors=True)
    return site


def put_together(top: Path, profile: str) -> Path:
    """Fill build/stage: pages with what is made for them, executed notebooks, settings; returns it."""
    stage = paths.make_folder(paths.build()) / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    _copy(top / "notebooks", stage)
    for page in stage.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for make in MADE:
            mark = f"<!-- made here: {make.__name__} -->"
            text = text.replace(mark, make()) if mark in text else text
        page.write_text(text, encoding="utf-8")
    for path in notebooks.choose(top, []):
        text = with_solutions(_executed(top, path, profile), path)
        (stage / path.relative_to(top / "notebooks")).write_text(text, encoding="utf-8")
    for name in CONFIGURATION:
        shutil.copyfile(top / name, stage / name)
    _copy(top / ASSETS, stage / ASSETS)
    return stage


def _copy(source: Path, target: Path) -> None:
    """Copy a folder without what is hidden and without solutions, and without rights: the source may be read-only."""
    for file in source.rglob("*"):
        parts = file.relative_to(source).parts
        if file.is_file() and not any(part.startswith(".") or part == "solutions" for part in parts):
            target.joinpath(*parts).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target.joinpath(*parts))


def with_solutions(executed: Path, path: Path) -> str:
    """An executed notebook as JSON, with the solution folded below each exercise for which there is one."""
    known = solutions.read(path)
    book = json.loads(executed.read_text(encoding="utf-8"))
    for number, what, name in reversed(notebooks.read(executed).checks()):
        if what == "exercise" and name in known:
            source = f":::{{dropdown}} A solution\n````python\n{known[name]}````\n:::"
            new = f"solution-{len(book['cells'])}"
            book["cells"].insert(number, {"id": new, "cell_type": "markdown", "metadata": {}, "source": source})
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def _executed(top: Path, path: Path, profile: str) -> Path:
    """The executed version of the notebook at `path`; UserError if it is missing or out of date."""
    plan = record.plan(top, path, profile, None, [])
    done, changed = record.load(plan)
    if done is None:
        since = f" since {changed} changed" if changed else ""
        again = f"type: ilbook run {plan.notebook.id} --profile {profile}"
        raise UserError(f"{plan.notebook.id} was not executed in the {profile} profile{since}; {again}")
    return plan.file(".ipynb")
