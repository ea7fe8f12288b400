"""Published results: which claims the notebooks declare, what became of them, whether that is stale, how it repeats."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from ilbook import stats
from ilbook.errors import UserError
from ilbook.page import versions
from ilbook.page.claims import Claim, in_seeds, others, published_path, read_json
from ilbook.paths import root
from ilbook.press import notebook as notebooks

PROFILES = ("lecture", "full")  # smoke evaluates nothing
UNDECIDED = "not evaluated"


@dataclass(frozen=True)
class Published:
    """A committed result, and why it is stale ("" if it is not)."""

    notebook: str
    profile: str
    result: dict
    provenance: dict
    stale: str

    @property
    def claims(self) -> dict[str, dict]:
        """What the run says about each claim, by its id."""
        return {claim["id"]: claim for claim in self.result.get("claims", [])}

    def others(self, claim: str) -> dict[str, dict]:
        """Outcomes of a claim with other seeds and all else equal: {seed: {"verdict", "effect", "low", "high"}}."""
        return others(self.notebook, self.profile, claim, self.provenance)


def published() -> Iterator[Published]:
    """All that lies in data/results, in order."""
    keys = {path.stem: versions.notebook_key(path) for path in notebooks.paths(root())}
    for path in sorted(published_path("any", "any").parents[1].glob("*/*.json")):
        both = read_json(path)
        for name in ("result", "provenance"):
            if not isinstance(both.get(name), dict):
                raise UserError(f"{path} has no {name!r}; publish the result again with ilbook run --publish")
        key = keys.get(path.parent.name)
        stale = why_stale(both["provenance"], key) if key else "its notebook is gone"
        yield Published(path.parent.name, path.stem, both["result"], both["provenance"], stale)


def why_stale(told: dict, key: dict | None = None) -> str:
    """Why a result is stale, in words; "" if it is not.

    `told` names the parts that ran; of a notebook it is the provenance, and `key` what `notebook_key` says today.
    """
    before, key = told.get("parts"), key or {}
    if not isinstance(before, dict):
        return "it does not say which parts ran"
    now = versions.known(before)
    lost = {part for part in before if not before[part] or not now.get(part)}
    settings = (told.get("parameters") or {}).items() ^ key.get("parameters", {}).items()
    words = ["the notebook changed"] if told.get("notebook") != key.get("notebook") else []
    for kind, names in (
        ("parameters changed", {name for name, _ in settings}),
        ("changed", {part for part in before.keys() - lost if before[part] != now[part]}),
        ("gone, or without a trace", lost),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            words.append(f"{kind}: {', '.join(sorted(names)[:3])}{more}")
    return "; ".join(words)


def rows() -> list[dict]:
    """One row per declared claim and profile: what was published, and how far it can be trusted.

    Nulls and "not evaluated" where nothing is. `smallest_visible` is the least effect that the comparison could have
    told from none, `replications` says in how many seeds the verdict was the same.
    """
    found = {(result.notebook, result.profile): result for result in published()}
    return [
        _row(claim, path.stem, profile, found.get((path.stem, profile)))
        for path in notebooks.paths(root())
        for claims in [declared(path)]
        for profile in PROFILES
        for claim in claims
    ]


def _row(claim: Claim, notebook: str, profile: str, result: Published | None) -> dict:
    record = result.claims.get(claim.id, {}) if result else {}
    row = {"id": claim.id, "method": claim.method, "notebook": notebook, "sentence": claim.sentence}
    # The minimum is the one that the verdict was given for; where the notebook has changed since, the row is stale.
    row |= {"verdict": UNDECIDED, "effect": None, "low": None, "high": None, "minimum": claim.minimum}
    row |= {"n": None, "seeds": None, "profile": profile, "stale": False, "why": "", "commit": None}
    row |= {"smallest_visible": None, "replications": None}
    if not record:
        return row
    row |= {key: record[key] for key in ("verdict", "effect", "low", "high", "minimum", "n", "seeds")}
    row |= {"stale": bool(result.stale), "why": result.stale, "commit": result.provenance.get("commit")}
    if record["baseline"] is not None:
        numbers = (record[key] for key in ("effect", "low", "high", "n", "seeds", "interval"))
        row["smallest_visible"] = stats.smallest_visible(stats.Estimate(*numbers))
    return row | {"replications": in_seeds(record["verdict"], result.others(claim.id)) or None}


def declared(path: Path) -> list[Claim]:
    """The claims in a notebook, read from its `Claim(...)` calls without running it; hence literals only."""
    found: list[Claim] = []
    for node in ast.walk(ast.Module(versions.notebook_code(path), [])):
        # Both `Claim(...)` and `claims.Claim(...)`.
        if isinstance(node, ast.Call) and "Claim" in (getattr(node.func, "id", None), getattr(node.func, "attr", None)):
            found.append(_claim(node, path))
    for claim in found:
        if sum(other.id == claim.id for other in found) > 1:
            raise UserError(f"{path.name}: claim id {claim.id!r} is declared twice; give each claim its own id")
    return found


def _claim(node: ast.Call, path: Path) -> Claim:
    names = [entry.name for entry in fields(Claim)]
    given = [*zip(names, node.args, strict=False), *((keyword.arg, keyword.value) for keyword in node.keywords)]
    values = {}
    for name, value in given:
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            raise UserError(
                f"{path.name}: {name or '**'} in Claim(...) is computed; write the value out, because claims are read "
                "without running the notebook"
            ) from None
    try:
        return Claim(**values)
    except (TypeError, UserError) as error:
        raise UserError(f"{path.name}: {error}") from None
