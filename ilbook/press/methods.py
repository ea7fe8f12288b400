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
FORMS = {  # how Python writes a value, and the same in words
    "slug": (r"'[a-z0-9]+(-[a-z0-9]+)*'", "small letters, digits and single hyphens"),
    "title": (r"(['\"]).*\w.*\1", "the title of the paper"),
    "year": (r"\d{4}", "a whole number such as 2023"),
    "arxiv": (r"None|'\d{4}\.\d{4,5}'", 'null or a quoted string such as "2303.04137"'),
}


def load(source: Path | None = None) -> list[dict[str, Any]]:
    """The table of methods, checked: a dict with `KEYS` for each. UserError for the first mistake, with its place."""
    source = source or root() / "data" / "methods.yml"
    try:
        table = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{source} cannot be read ({' '.join(str(error).split())}); correct it") from error
    if not isinstance(table, list) or not table:
        raise UserError(f"{source.name} must be a list with one entry per method, and it is not")
    known = {"part": list(PARTS), "status": STATUSES, "notebook": [file.stem for file in notebooks.paths(root())]}
    for number, row in enumerate(table, start=1):
        place = f"{source.name}, method {number}"
        if not isinstance(row, dict) or sorted(row, key=str) != sorted(KEYS):
            raise UserError(f"{place}: a method needs exactly the keys {', '.join(KEYS)}")
        place = f"{place} ({row['slug']})"
        for key, (pattern, words) in FORMS.items():
            if not re.fullmatch(pattern, repr(row[key])):
                raise UserError(f"{place}: the {key} {row[key]!r} must be {words}")
        for kind, valid in known.items():
            if row[kind] not in valid and (kind, row[kind]) != ("notebook", None):
                raise UserError(f"{place}: {unknown(kind, str(row[kind]), valid)}")
        if row["notebook"] is None and row["status"] != "planned":
            raise UserError(f"{place}: the status '{row['status']}' needs a notebook; name it or write planned")
        if row["slug"] in [other["slug"] for other in table[: number - 1]]:
            raise UserError(f"{place}: the slug is used twice; rename one")
    return table


def rows() -> list[dict[str, Any]]:
    """The table of methods, each row with `claims`: the ids of the claims declared about that method."""
    table = load()
    found: dict[str, dict[str, None]] = {row["slug"]: {} for row in table}
    for claim in results.rows():
        if claim["method"] not in found:
            place = f"claim {claim['id']} of notebook {claim['notebook']}"
            raise UserError(f"{place}: {unknown('method', claim['method'], found)}")
        found[claim["method"]][claim["id"]] = None  # once: a claim has one row per profile
    return [{**row, "claims": list(found[row["slug"]])} for row in table]
