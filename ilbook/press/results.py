"""Published results: which claims the notebooks declare, what became of them, whether that is stale, how it repeats."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ilbook import stats
from ilbook.errors import UserError, listed
from ilbook.page import versions
from ilbook.page.claims import Claim, in_seeds, others, published_path, read_json
from ilbook.paths import root
from ilbook.press import notebook as notebooks
from ilbook.press.notebook import Notebook

PROFILES = ("lecture", "full")  # smoke evaluates nothing
UNDECIDED = "not evaluated"
ASKED = ("notebook", "profile", "seed")  # what a result says of the run that gave it


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
        """`claims.others` of one of its claims."""
        return others(self.notebook, self.profile, claim, self.provenance)


def published() -> Iterator[Published]:
    """All that lies in data/results, in order."""
    pages = {path.stem: path for path in notebooks.paths(root())}
    for path in sorted(published_path("any", "any").parents[1].glob("*/*.json")):
        both = read_json(path)
        if not all(isinstance(both.get(name), dict) for name in ("result", "provenance")):
            raise UserError(f"{path} lacks its result or provenance; publish it again with ilbook run --publish")
        page, result = pages.get(path.parent.name), both["result"]
        stale = "its notebook is gone"
        if page:
            asked = {"seed": 0, **versions.notebook_parameters(page), "notebook": page.stem, "profile": path.stem}
            other = [f"it is of {name} {result.get(name)}" for name in ASKED if result.get(name) != asked[name]]
            stale = "; ".join(other) or why_stale(both["provenance"], versions.notebook_key(page))
        yield Published(path.parent.name, path.stem, result, both["provenance"], stale)


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
    kinds = {
        "parameters changed": {name for name, _ in settings},
        "changed": {part for part in before.keys() - lost if before[part] != now[part]},
        "gone, or without a trace": lost,
    }
    return "; ".join(words + [f"{kind}: {listed(sorted(names), 3)}" for kind, names in kinds.items() if names])


def rows() -> list[dict]:
    """One row per declared claim and profile: what was published, and how far it can be trusted.

    Nulls and "not evaluated" where nothing is. `smallest_visible` is the least effect that the comparison could have
    told from none, `replications` says in how many seeds the verdict was the same.
    """
    results = {(result.notebook, result.profile): result for result in published()}
    found = []
    for book in map(notebooks.read, notebooks.paths(root())):
        for profile, claim in product(PROFILES, declared(book)):
            found.append(_row(claim, book.id, profile, results.get((book.id, profile))))
    return found


def _row(claim: Claim, notebook: str, profile: str, result: Published | None) -> dict:
    record = result.claims.get(claim.id, {}) if result else {}
    row = {"id": claim.id, "method": claim.method, "notebook": notebook, "sentence": claim.sentence, "profile": profile}
    row |= {"verdict": UNDECIDED, "minimum": claim.minimum, "stale": False, "why": ""}
    row |= dict.fromkeys(("effect", "low", "high", "n", "seeds", "commit", "smallest_visible", "replications"))
    if not record:
        return row
    # The minimum is the one that the verdict was given for; where the notebook has changed since, the row is stale.
    row |= {key: record[key] for key in ("verdict", "effect", "low", "high", "minimum", "n", "seeds")}
    row |= {"stale": bool(result.stale), "why": result.stale, "commit": result.provenance.get("commit")}
    if record["baseline"] is not None:
        numbers = (record[key] for key in ("effect", "low", "high", "n", "seeds", "interval"))
        row["smallest_visible"] = stats.smallest_visible(stats.Estimate(*numbers))
    return row | {"replications": in_seeds(record["verdict"], result.others(claim.id)) or None}


def declared(book: Notebook) -> list[Claim]:
    """The claims in a notebook, read from its `Claim(...)` calls without running it; hence literals only."""
    calls = [call for _, call in book.nodes(ast.Call) if ast.unparse(call.func).split(".")[-1] == "Claim"]
    found = [_claim(call, book.path) for call in calls]
    if len({claim.id for claim in found}) < len(found):
        raise UserError(f"{book.path.name}: a claim id is declared twice; give each claim its own id")
    return found


def _claim(node: ast.Call, path: Path) -> Claim:
    try:
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        return Claim(*map(ast.literal_eval, node.args), **named)
    except ValueError:
        what = f"{path.name}: something in `{ast.unparse(node)[:60]}...` is computed"
        raise UserError(f"{what}; write it out, because claims are read without running the notebook") from None
    except (TypeError, UserError) as error:
        raise UserError(f"{path.name}: {error}") from None
