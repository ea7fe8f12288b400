"""The methods of the book: the rows of data/methods.yml, checked, with the claims that test each of them."""

import re
from pathlib import Path
from typing import Any

import yaml

from ilbook.errors import UserError, unknown
from ilbook.paths import root
from ilbook.press import notebook as notebooks
from ilbook.press import results

# Slug and caption of every part, in the order of the book. The first six belong to the first edition.
PARTS = {
    "foundations": "Foundations",
    "behaviour-cloning": "Behaviour cloning",
    "diffusion-policies": "Diffusion policies",
    "residual-rl": "Residual reinforcement learning",
    "failure-prediction": "Failure prediction",
    "real-robot": "Real robots",
    "data-and-evaluation": "Data and evaluation",
    "representation": "Representation",
    "world-models": "World models",
    "video-and-transfer": "Video and transfer",
    "rl-and-imitation": "Reinforcement learning and imitation",
    "physical-characters": "Physical characters",
    "agents": "Agents",
}
STATUSES = ("planned", "draft", "faithful", "reproduced", "contradicted", "inconclusive")
KEYS = ("slug", "title", "year", "arxiv", "part", "notebook", "status")


def load(source: Path | None = None) -> list[dict[str, Any]]:
    """Read and check the table of methods (`source`, else data/methods.yml): one dict with `KEYS` per method.

    Raises UserError, naming the file and the row, for the first thing that is wrong.
    """
    source = source or root() / "data" / "methods.yml"
    try:
        table = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the table of methods {source}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{source.name} is not valid YAML{place}: correct that line") from error
    if not isinstance(table, list) or not table:
        raise UserError(f"{source.name} must be a list with one entry per method, and it is not")
    seen: set[str] = set()
    for number, row in enumerate(table, start=1):
        _check(row, f"{source.name}, method {number}")
        if row["slug"] in seen:
            raise UserError(f"{source.name}, method {number}: the slug '{row['slug']}' is used twice; rename one")
        seen.add(row["slug"])
    return table


def rows() -> list[dict[str, Any]]:
    """The table of methods, each row with `claims`: the ids of the claims declared about that method."""
    table = load()
    found: dict[str, list[str]] = {row["slug"]: [] for row in table}
    for claim in results.rows():
        ids = found.get(claim["method"])
        if ids is None:
            place = f"claim {claim['id']} of notebook {claim['notebook']}"
            raise UserError(f"{place}: {unknown('method', claim['method'], found)}")
        if claim["id"] not in ids:  # a claim has one row per profile
            ids.append(claim["id"])
    return [{**row, "claims": found[row["slug"]]} for row in table]


def _check(row: Any, place: str) -> None:
    """Refuse a row that breaks the schema, in one sentence."""
    if not isinstance(row, dict) or sorted(row, key=str) != sorted(KEYS):
        raise UserError(f"{place}: a method needs exactly the keys {', '.join(KEYS)}")
    slug, year, arxiv, notebook = row["slug"], row["year"], row["arxiv"], row["notebook"]
    if not isinstance(slug, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug):
        raise UserError(f"{place}: the slug {slug!r} must be small letters, digits and single hyphens")
    place = f"{place} ({slug})"
    if not isinstance(row["title"], str) or not row["title"].strip():
        raise UserError(f"{place}: the title is empty; give the title of the paper")
    if type(year) is not int or not 1950 <= year <= 2100:
        raise UserError(f"{place}: the year {year!r} must be a whole number such as 2023")
    if arxiv is not None and not (isinstance(arxiv, str) and re.fullmatch(r"\d{4}\.\d{4,5}", arxiv)):
        raise UserError(f'{place}: the arXiv number {arxiv!r} must be null or a quoted string such as "2303.04137"')
    known = {"part": list(PARTS), "status": STATUSES, "notebook": [file.stem for file in notebooks.paths(root())]}
    for kind, valid in known.items():
        if row[kind] not in valid and (kind, row[kind]) != ("notebook", None):
            raise UserError(f"{place}: {unknown(kind, str(row[kind]), valid)}")
    if notebook is None and row["status"] != "planned":
        raise UserError(f"{place}: the status '{row['status']}' needs a notebook; name it or write planned")
