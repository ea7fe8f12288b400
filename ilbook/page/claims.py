"""Claims declared before a run, the verdicts on them, and the ledger of what was published and what is stale."""

import ast
import html
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ilbook.errors import UserError, unknown
from ilbook.page import sources
from ilbook.paths import root, write_file
from ilbook.rollout import WALL_TIME
from ilbook.stats import VERDICTS as DECIDED
from ilbook.stats import Estimate

VERDICTS = (*DECIDED, "not evaluated")
DIRECTIONS = ("higher", "lower")
LEDGER_PROFILES = ("lecture", "full")  # smoke evaluates nothing
COLOURS = {
    "supported": "46,125,50",
    "contradicted": "198,40,40",
    "inconclusive": "249,168,37",
    "not evaluated": "117,117,117",
}


@dataclass(frozen=True)
class Claim:
    """One sentence that a run may contradict.

    With a baseline, the effect is policy minus baseline on the same starts; without, it is the policy's own rate.
    Direction "lower" negates the effect, so that more is always better: "at most 0.05" has the minimum -0.05.
    """

    id: str  # slug, unique in its notebook
    sentence: str  # what is claimed, in words
    method: str  # slug of the card in methods/
    policy: str  # value in the table's column `policy`
    baseline: str | None  # the strongest fair alternative, or None for one rate
    metric: str  # column of the table
    direction: str  # "higher" or "lower" is better
    minimum: float | None = None  # smallest effect that would matter; None only to say what is missing
    source: str = ""  # where the paper says so

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise UserError(
                f"claim id {self.id!r} is not a slug; use lower-case words joined by '-', as in 'chunk-beats-one-step'"
            )
        for name in ("sentence", "method", "policy", "metric", "source"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise UserError(f"claim {self.id}: {name} is {getattr(self, name)!r}; give it a text")
        if self.metric == WALL_TIME:
            raise UserError(
                f"claim {self.id}: {WALL_TIME} differs from run to run; choose a metric that the seed fixes"
            )
        if self.direction not in DIRECTIONS:
            raise UserError(f"claim {self.id}: {unknown('direction', self.direction, DIRECTIONS)}")
        if self.baseline is not None and (not isinstance(self.baseline, str) or self.baseline in ("", self.policy)):
            raise UserError(
                f"claim {self.id}: baseline {self.baseline!r} must name another policy than {self.policy!r}, or be None"
            )
        if self.minimum is None:
            raise UserError(
                f"claim {self.id} has no minimum effect, so any difference would do; give the least that matters, "
                "as in minimum=0.05"
            )
        if (
            isinstance(self.minimum, bool)
            or not isinstance(self.minimum, (int, float))
            or not math.isfinite(self.minimum)
        ):
            raise UserError(
                f"claim {self.id}: minimum {self.minimum!r} is not a finite number; give the least effect that matters"
            )
        if self.baseline is not None and self.minimum <= 0:
            raise UserError(
                f"claim {self.id}: minimum {self.minimum} against a baseline must be > 0; an effect of zero "
                "is no improvement"
            )


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim; in a notebook it shows itself as a box. The estimate is signed: more is better."""

    claim: Claim
    verdict: str
    estimate: Estimate
    profile: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise unknown("verdict", self.verdict, VERDICTS)

    def record(self) -> dict:
        """The entry in result.json: the claim as it was declared, the verdict, and the numbers behind it."""
        numbers = asdict(self.estimate)
        numbers["interval"] = numbers.pop("method")  # `method` is the claim's
        return {**asdict(self.claim), "verdict": self.verdict, **numbers}

    def __str__(self) -> str:
        estimate, claim = self.estimate, self.claim
        seeds = {0: "no training", 1: "1 training seed"}.get(estimate.seeds, f"{estimate.seeds} training seeds")
        return (
            f"{self.verdict.capitalize()} ({self.profile} profile): {claim.sentence} "
            f"Effect {estimate.effect:+.3f}, 95 % interval {estimate.low:+.3f} to {estimate.high:+.3f}, "
            f"asked for at least {claim.minimum:+.3f}; n = {estimate.n}, {seeds}, {estimate.method}."
        )

    def _repr_markdown_(self) -> str:
        colour = COLOURS[self.verdict]
        word, _, rest = str(self).partition(" (")
        # The word carries the verdict and the colour only repeats it; no text colour, so that dark themes stay legible.
        style = f"border-left: 6px solid rgb({colour}); background-color: rgba({colour},0.12); padding: 0.6em 1em"
        return f'<div style="{style}"><strong>{html.escape(word)}</strong> ({html.escape(rest)}</div>'


def declared(notebook_path: Path) -> list[Claim]:
    """The claims in a notebook, read from its `Claim(...)` calls without running it; hence literals only."""
    found: list[Claim] = []
    for node in ast.walk(ast.parse(sources.notebook_code(notebook_path))):
        if isinstance(node, ast.Call) and _called(node) == "Claim":
            found.append(_claim(node, notebook_path))
    for claim in found:
        if sum(other.id == claim.id for other in found) > 1:
            raise UserError(
                f"{notebook_path.name}: claim id {claim.id!r} is declared twice; give each claim its own id"
            )
    return found


def _called(node: ast.Call) -> str | None:
    """The last name of what is called: `Claim` for both `Claim(...)` and `claims.Claim(...)`."""
    return getattr(node.func, "id", None) or getattr(node.func, "attr", None)


def _claim(node: ast.Call, notebook_path: Path) -> Claim:
    names = [entry.name for entry in fields(Claim)]
    given = [*zip(names, node.args, strict=False), *((keyword.arg, keyword.value) for keyword in node.keywords)]
    values = {}
    for name, value in given:
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            raise UserError(
                f"{notebook_path.name}: {name or '**'} in Claim(...) is computed; write the value out, "
                "because claims are read without running the notebook"
            ) from None
    try:
        return Claim(**values)
    except (TypeError, UserError) as error:
        raise UserError(f"{notebook_path.name}: {error}") from None


def rows() -> list[dict]:
    """One row per declared claim and profile (lecture, full): what was measured, and whether it is stale.

    Nulls and "not evaluated" where nothing is stored. `origin` says "published" (data/results), "local" (build/runs)
    or null; a local result counts only where it is up to date and the published one is missing or stale, or alone.
    """
    listed = []
    for path in sources.notebooks():
        claims = declared(path)
        for profile in LEDGER_PROFILES if claims else ():
            stored = _best(path, profile)
            listed += [_row(claim, path.stem, profile, stored) for claim in claims]
    return listed


def _row(claim: Claim, notebook: str, profile: str, stored: "_Stored | None") -> dict:
    known = {record["id"]: record for record in stored.result.get("claims", [])} if stored else {}
    record = known.get(claim.id, {})
    row = {"id": claim.id, "method": claim.method, "notebook": notebook, "sentence": claim.sentence}
    row["verdict"] = record.get("verdict", "not evaluated")
    row |= {key: record.get(key) for key in ("effect", "low", "high")}
    # The minimum that the verdict was given for; where the notebook has changed since, the row is stale.
    row["minimum"] = record.get("minimum", claim.minimum)
    row |= {key: record.get(key) for key in ("n", "seeds")}
    return row | {
        "profile": profile,
        "stale": bool(record) and stored.stale,
        "origin": stored.origin if record else None,
    }


@dataclass(frozen=True)
class _Stored:
    """A result on disk, and whether the notebook, its sources or its data have changed since."""

    result: dict
    origin: str  # "published" or "local"
    stale: bool


def _best(path: Path, profile: str) -> _Stored | None:
    """The published result, unless it is stale or missing and a local one can stand in."""
    best = None
    now = None
    for origin, (result, provenance) in _on_disk(path.stem, profile):
        now = now or sources.notebook_hashes(path)
        stored = _Stored(result, origin, stale=bool(sources.difference(provenance.get("hashes") or {}, now)))
        if not stored.stale:
            return stored
        best = best or stored
    return best


def _on_disk(notebook: str, profile: str) -> Iterator[tuple[str, tuple[dict, dict]]]:
    published = published_path(notebook, profile)
    if published.exists():
        both = read_json(published)
        yield "published", (part(both, "result", published), part(both, "provenance", published))
    local = root() / "build" / "runs" / notebook / profile
    if (local / "result.json").exists():
        provenance = local / "provenance.json"
        yield "local", (read_json(local / "result.json"), read_json(provenance) if provenance.exists() else {})


def published_path(notebook: str, profile: str) -> Path:
    """Where the committed result of a notebook lies: data/results/<notebook>/<profile>.json."""
    return root() / "data" / "results" / notebook / f"{profile}.json"


def publish(out: Path, notebook: str, profile: str) -> Path:
    """Copy the finished run in folder `out` to the committed results; returns the file written."""
    from ilbook.press import ledger

    result = read_json(out / "result.json")
    if (result.get("notebook"), result.get("profile")) != (notebook, profile):
        raise UserError(f"{out / 'result.json'} is not a result of {notebook} in the {profile} profile; run it again")
    if profile not in LEDGER_PROFILES:
        raise UserError(f"a {profile} run evaluates no claim and cannot be published; use --profile lecture or full")
    result.pop("token", None)  # it only ties a running kernel to its runner
    path = published_path(notebook, profile)
    both = {"result": result, "provenance": read_json(out / "provenance.json")}
    write_file(path, json.dumps(both, indent=1, allow_nan=False) + "\n")
    ledger.record_new(notebook, profile, result)
    return path


def read_json(path: Path) -> dict:
    """The JSON object in a file of results, or the error that says what to do about it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); delete it and run its notebook again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; delete it and run its notebook again")
    return content


def part(both: dict, name: str, path: Path) -> dict:
    """The `result` or the `provenance` of a published file."""
    if not isinstance(both.get(name), dict):
        raise UserError(f"{path} has no {name!r}; publish the result again with ilbook run --publish")
    return both[name]
