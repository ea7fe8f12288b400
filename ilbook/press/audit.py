"""How often the traces are fooled, and how often another seed says the same: published pages, run again."""

import json
import math
import random
from typing import TextIO

from ilbook.errors import UserError, unknown
from ilbook.page.claims import key_of, read_json, replications, replications_path
from ilbook.paths import write_file
from ilbook.press import execute, results
from ilbook.press.results import Published

ABOUT = ("machine", "python", "versions", "threads")  # where these differ, numbers may
SAME = 1e-6  # numbers that are no farther apart are the same
OUTCOME = ("verdict", "effect", "low", "high")


def run(pages: int, seeds: int, profile: str, draw: int | None, progress: TextIO) -> list[dict]:
    """Run `pages` published pages, drawn at random, once more and with `seeds` seeds that none has tried yet.

    One row per run. Where it is repeated (`seed` null) `moved` is the largest change of a number, null if more changed
    than numbers, and `why` is what may explain it. Outcomes of other seeds go to data/results/replications.json.
    """
    if profile not in results.PROFILES:
        raise unknown("profile", profile, results.PROFILES)
    found = [result for result in results.published() if result.profile == profile]
    if not found:
        raise UserError(f"no page has a published {profile} result; publish one with ilbook run --publish")
    draw = random.SystemRandom().randrange(10_000) if draw is None else draw
    chosen = random.Random(draw).sample(found, min(pages, len(found)))
    print(f"drawn with --draw {draw}: {', '.join(old.notebook for old in chosen)}", file=progress, flush=True)
    rows = []
    for old in chosen:
        rows.append(_again(old, None, progress))
        tried = {int(seed) for claim in old.claims for seed in old.others(claim)} | {old.result["seed"]}
        new = [seed for seed in range(len(tried) + seeds + 1) if seed not in tried]
        rows += [_again(old, seed, progress) for seed in new[:seeds]]
    return rows


def words(row: dict) -> str:
    """One row of `run` as a line for people."""
    name = f"{row['notebook']} ({row['profile']}"
    if not row["verdicts"] and row["why"]:
        return f"FAIL  {name}): {row['why']}"
    if row["seed"] is not None:
        return f"seed  {name}, seed {row['seed']}): {', '.join(f'{k} {v}' for k, v in row['verdicts'].items())}"
    far = "more than numbers moved" if row["moved"] is None else f"numbers moved by {row['moved']:.2g} at most"
    told = "; ".join([*row["changed"], far, *([f"explained by: {row['why']}"] if row["why"] else [])])
    return f"{'same' if row['moved'] == 0 else 'ok  ' if row['ok'] else 'FAIL'}  {name}): {told}"


def _again(old: Published, seed: int | None, progress: TextIO) -> dict:
    row = {"notebook": old.notebook, "profile": old.profile, "seed": seed}
    row |= {"verdicts": {}, "changed": [], "moved": None, "why": "", "ok": True}
    (done,) = execute.run([old.notebook], old.profile, seed, fresh=seed is None, progress=progress)
    if done["status"] not in execute.GOOD:
        return row | {"why": done["why"], "ok": False}
    result, provenance = (read_json(done["out"] / f"{name}.json") for name in ("result", "provenance"))
    result.pop("token", None)
    new = Published(old.notebook, old.profile, result, provenance, "")
    row["verdicts"] = {name: claim["verdict"] for name, claim in new.claims.items()}
    if seed is not None:
        _keep(new, seed)
        return row
    before = {name: claim["verdict"] for name, claim in old.claims.items()}
    row["changed"] = [f"{n}: {before.get(n)} -> {now}" for n, now in row["verdicts"].items() if now != before.get(n)]
    moved = _moved(old.result, result)
    other = [f"another {name}" for name in ABOUT if old.provenance.get(name) != provenance[name]]
    row["why"] = old.stale or ", ".join(other)
    return row | {"moved": moved if moved < math.inf else None, "ok": bool(row["why"]) or moved <= SAME}


def _moved(old: object, new: object) -> float:
    """The largest difference of two numbers at the same place; infinite if anything else differs."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return max((_moved(old[key], new[key]) for key in old), default=0.0)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max(map(_moved, old, new), default=0.0)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new)
    return 0.0 if old == new else math.inf


def _keep(new: Published, seed: int) -> None:
    """Add the outcomes of one seed; those of other code stay, but no longer count."""
    kept, key = replications(), key_of(new.provenance)
    claims = kept.setdefault(new.notebook, {}).setdefault(new.profile, {})
    for name, claim in new.claims.items():
        claims.setdefault(name, {})[str(seed)] = {**{part: claim[part] for part in OUTCOME}, "key": key}
    write_file(replications_path(), json.dumps(kept, indent=1, sort_keys=True) + "\n")
