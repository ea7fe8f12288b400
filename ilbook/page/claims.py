"""Claims, declared before a run, and the verdicts on them."""

import html
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ilbook.errors import UserError, unknown
from ilbook.page import versions
from ilbook.paths import root
from ilbook.rollout import WALL_TIME
from ilbook.stats import Estimate, smallest_visible

COLOURS = {  # of the verdicts
    "supported": "46,125,50",
    "contradicted": "198,40,40",
    "inconclusive": "249,168,37",
    "not evaluated": "117,117,117",
}
VERDICTS = tuple(COLOURS)
DIRECTIONS = ("higher", "lower")


@dataclass(frozen=True)
class Claim:
    """One sentence that a run may contradict. Its effect is policy minus baseline, or the policy's own rate; direction
    "lower" negates it, so that more is always better: "at most 0.05" has the minimum -0.05.
    """

    id: str  # slug, unique in its notebook
    sentence: str  # what is claimed, in words
    method: str  # slug of the card in methods/
    policy: str  # value in the table's column `policy`
    baseline: str | None  # the strongest fair alternative, on the same starts; None for one rate
    metric: str  # column of the table
    direction: str  # "higher" or "lower" is better
    minimum: float | None = None  # smallest effect that would matter; None only to say what is missing
    source: str = ""  # where the paper says so

    def __post_init__(self) -> None:
        texts = {name: getattr(self, name) for name in ("sentence", "method", "policy", "metric", "source")}
        bad = {name: text for name, text in texts.items() if not isinstance(text, str) or not text.strip()}
        slug, least = re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(self.id)), self.minimum
        finite = isinstance(least, int | float) and math.isfinite(least)
        enough, other = self.baseline is None or (finite and least > 0), self.baseline not in ("", self.policy)
        for right, wrong in (
            *((False, f": {name} is {text!r}; give it a text") for name, text in bad.items()),
            (slug, ": its id is not a slug; use lower-case words joined by '-', as in 'chunk-beats-one-step'"),
            (self.metric != WALL_TIME, f": {WALL_TIME} differs from run to run; choose a metric that the seed fixes"),
            (self.direction in DIRECTIONS, f": {unknown('direction', self.direction, DIRECTIONS)}"),
            (other, f": baseline {self.baseline!r} must name another policy than {self.policy!r}, or be None"),
            (least is not None, " has no minimum effect, so any difference would do; give one, as in minimum=0.05"),
            (finite, f": minimum {least!r} is not a finite number; give the least effect that matters"),
            (enough, f": minimum {least} against a baseline must be > 0; an effect of zero is no improvement"),
        ):
            if not right:
                raise UserError(f"claim {self.id}{wrong}")


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim; in a notebook it shows itself as a box. The estimate is signed: more is better."""

    claim: Claim
    verdict: str
    estimate: Estimate
    profile: str

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
        word, _, rest = f"{self}{self._reach()}".partition(" (")
        # The word carries the verdict and the colour only repeats it; no text colour, so that dark themes stay legible.
        style = f"border-left: 6px solid rgb({colour}); background-color: rgba({colour},0.12); padding: 0.6em 1em"
        return f'<div style="{style}"><strong>{html.escape(word)}</strong> ({html.escape(rest)}</div>'

    def _reach(self) -> str:
        """How small an effect could have been seen, and whether other seeds agree; nothing if nothing was evaluated."""
        if self.profile == "smoke":
            return ""
        visible, seeds = f"{smallest_visible(self.estimate):.3f}", repeated(self.claim, self.profile)
        words = f" Smallest effect that this comparison could have seen: {visible}." if self.claim.baseline else ""
        return words + (f" Repeated: {seeds}." if seeds else "")


# -- what is published ------------------------------------------------------------------------------------------------
def repeated(claim: Claim, profile: str) -> str:
    """`in_seeds` for the published verdict on a claim; "" if notebook, parameters or parts are others by now."""
    for notebook in replications():
        path = published_path(notebook, profile)
        both = read_json(path) if path.exists() else {"result": {"claims": []}}
        for record in both["result"]["claims"]:
            if asdict(claim).items() <= record.items():
                now = versions.key_of_run(notebook) | {"parts": versions.known(both["provenance"].get("parts", ()))}
                return in_seeds(record["verdict"], others(notebook, profile, claim.id, now))
    return ""


def in_seeds(verdict: str, outcomes: dict[str, dict]) -> str:
    """In how many seeds, its own included, the verdict was this: "supported in 4 of 5 seeds"; "" without `others`."""
    verdicts = [verdict, *(outcome["verdict"] for outcome in outcomes.values())]
    return f"{verdict} in {verdicts.count(verdict)} of {len(verdicts)} seeds" if outcomes else ""


def others(notebook: str, profile: str, claim: str, provenance: dict) -> dict[str, dict]:
    """Outcomes of a claim with other seeds and all else equal: {seed: {"verdict", "effect", "low", "high"}}."""
    kept = replications().get(notebook, {}).get(profile, {}).get(claim, {})
    return {seed: outcome for seed, outcome in kept.items() if outcome["key"] == key_of(provenance)}


def key_of(provenance: dict) -> str:
    """Eight digits over notebook, parameters and parts: results of one key differ by their seed alone."""
    return versions.digest([provenance.get(name) for name in ("notebook", "parameters", "parts")])[:8]


def published_path(notebook: str, profile: str) -> Path:
    """Where the committed result of a notebook lies: data/results/<notebook>/<profile>.json."""
    return root() / "data" / "results" / notebook / f"{profile}.json"


def replications_path() -> Path:
    return root() / "data" / "results" / "replications.json"


def replications() -> dict[str, dict]:
    """Outcomes of pages run with other seeds: {notebook: {profile: {claim: {seed: outcome}}}}."""
    return read_json(replications_path()) if replications_path().exists() else {}


def read_json(path: Path) -> dict:
    """The JSON object in a file of results, or the error that says what to do about it."""
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no JSON object ({error}); delete it and run its notebook again") from None
