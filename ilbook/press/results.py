"""Published results: which claims the notebooks declare, what became of them, whether that is stale, how it repeats."""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ilbook import stats
from ilbook.errors import UserError
from ilbook.page import versions
from ilbook.page.claims import Claim
from ilbook.paths import root
from ilbook.press import notebook as notebooks
from ilbook.press.notebook import Notebook

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
        kept = replications().get(self.notebook, {}).get(self.profile, {}).get(claim, {})
        return {seed: outcome for seed, outcome in kept.items() if outcome["key"] == key_of(self.provenance)}


def published() -> Iterator[Published]:
    """All that lies in data/results, in order."""
    keys = {path.stem: versions.notebook_key(path) for path in notebooks.paths(root())}
    for path in sorted(published_path("any", "any").parents[1].glob("*/*.json")):
        both = read_json(path)
        if not all(isinstance(both.get(name), dict) for name in ("result", "provenance")):
            raise UserError(f"{path} lacks its result or provenance; publish it again with ilbook run --publish")
        key = keys.get(path.parent.name)
        stale = versions.stale(both["provenance"], key) if key else "its notebook is gone"
        yield Published(path.parent.name, path.stem, both["result"], both["provenance"], stale)


def rows() -> list[dict]:
    """One row per declared claim and profile: what was published, and how far it can be trusted.

    Nulls and "not evaluated" where nothing is. `smallest_visible` is the least effect that the comparison could have
    told from none, `replications` says in how many seeds the verdict was the same.
    """
    found = {(result.notebook, result.profile): result for result in published()}
    return [
        _row(claim, path.stem, profile, found.get((path.stem, profile)))
        for path in notebooks.paths(root())
        for claims in [declared(notebooks.read(path))]
        for profile in PROFILES
        for claim in claims
    ]


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
    verdicts = Counter(outcome["verdict"] for outcome in result.others(claim.id).values())
    if verdicts:
        same, tried = verdicts[record["verdict"]] + 1, verdicts.total() + 1
        row["replications"] = f"{record['verdict']} in {same} of {tried} seeds"
    return row


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


def published_path(notebook: str, profile: str) -> Path:
    """Where the committed result of a notebook lies: data/results/<notebook>/<profile>.json."""
    return root() / "data" / "results" / notebook / f"{profile}.json"


def replications_path() -> Path:
    return root() / "data" / "results" / "replications.json"


def replications() -> dict[str, dict]:
    """Outcomes of pages run with other seeds: {notebook: {profile: {claim: {seed: outcome}}}}."""
    return read_json(replications_path()) if replications_path().exists() else {}


def key_of(provenance: dict) -> str:
    """Eight digits over notebook, parameters and parts: results of one key differ by their seed alone."""
    return versions.digest([provenance.get(name) for name in ("notebook", "parameters", "parts")])[:8]


def read_json(path: Path) -> dict:
    """The JSON object in a file of results, or the error that says what to do about it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); delete it and run its notebook again") from None
    return content
