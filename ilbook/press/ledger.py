"""The accepted verdicts (data/results/verdicts.json), and the check that none has changed or aged in silence."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from ilbook.errors import UserError
from ilbook.page import claims, sources
from ilbook.paths import root, write_file

GONE = "not evaluated"


def file() -> Path:
    return root() / "data" / "results" / "verdicts.json"


def rows() -> list[dict]:
    """One row per published verdict: accepted and present verdict, whether the result is stale, and the problems.

    A verdict that differs from the accepted one needs an entry in CHANGELOG.md that was not there when the old one was
    accepted: the claim's id, followed by the new verdict.
    """
    accepted, found = _accepted(), []
    entries = _entries()
    for notebook, profile, claim, verdict, stale in _published():
        old = accepted.get(_key(notebook, profile, claim), {})
        row = {"id": claim, "notebook": notebook, "profile": profile, "accepted": old.get("verdict")}
        row |= {"verdict": verdict, "stale": bool(stale), "problems": [], "note": ""}
        if stale:
            row["problems"].append(f"the published result is stale ({stale}); run and publish it again")
        if claim is not None and verdict != old.get("verdict"):
            was = old.get("verdict", "not on record")
            if _told(claim, verdict, entries, old.get("changelog", [])):
                row["note"] = f"{was} -> {verdict}, as CHANGELOG.md tells; record it with ilbook claims --accept"
            else:
                row["problems"].append(
                    f"the verdict changed ({was} -> {verdict}) and no new entry of CHANGELOG.md says '{claim}' and "
                    f"then '{verdict}'; write one"
                )
        found.append(row)
    seen = {_key(row["notebook"], row["profile"], row["id"]) for row in found}
    for key, old in accepted.items():
        if key not in seen:
            found.append(_gone(key, old, entries))
    return found


def _gone(key: str, old: dict, entries: list[str]) -> dict:
    notebook, profile, claim = key.split("/")
    row = {"id": claim, "notebook": notebook, "profile": profile, "accepted": old["verdict"], "verdict": GONE}
    row |= {"stale": False, "problems": [], "note": ""}
    if _told(claim, GONE, entries, old["changelog"]):
        row["note"] = "no longer published, as CHANGELOG.md tells; record it with ilbook claims --accept"
    else:
        row["problems"].append(
            f"it was {old['verdict']} and is no longer published; publish it, or say '{claim}' and then '{GONE}' in a "
            "new entry of CHANGELOG.md"
        )
    return row


def accept() -> list[str]:
    """Record every changed verdict that CHANGELOG.md tells; returns the ids. The others stay as they are."""
    accepted, taken = _accepted(), []
    for row in rows():
        if row["note"]:
            key = _key(row["notebook"], row["profile"], row["id"])
            accepted.pop(key, None)
            if row["verdict"] != GONE:
                accepted[key] = _record(row["id"], row["verdict"])
            taken.append(row["id"])
    if taken:
        _write(accepted)
    return taken


def record_new(notebook: str, profile: str, result: dict) -> None:
    """Put the verdicts of a published result on record where the claim had none: a first verdict changes nothing."""
    accepted = _accepted()
    new = {
        key: _record(claim["id"], claim["verdict"])
        for claim in result["claims"]
        if (key := _key(notebook, profile, claim["id"])) not in accepted
    }
    if new:
        _write(accepted | new)


def _published() -> Iterator[tuple[str, str, str | None, str | None, str]]:
    """Notebook, profile, claim, verdict and why it is stale ("" if it is not), for all that lies in data/results."""
    notebooks = {path.stem: path for path in sources.notebooks()}
    now: dict[str, dict] = {}
    for path in sorted(file().parent.glob("*/*.json")):
        notebook, profile = path.parent.name, path.stem
        both = claims.read_json(path)
        result, provenance = claims.part(both, "result", path), claims.part(both, "provenance", path)
        if notebook in notebooks:
            now[notebook] = now.get(notebook) or sources.notebook_hashes(notebooks[notebook])
            stale = sources.difference(provenance.get("hashes") or {}, now[notebook])
        else:
            stale = "its notebook is gone"
        for claim in result.get("claims", []):
            yield notebook, profile, claim["id"], claim["verdict"], stale
        if not result.get("claims"):
            yield notebook, profile, None, None, stale


def _key(notebook: str, profile: str, claim: str | None) -> str:
    return f"{notebook}/{profile}/{claim}"


def _record(claim: str, verdict: str) -> dict:
    """What is kept of an accepted verdict: the entries that mention the claim so far tell of no later change."""
    mine = [sources.sha(entry)[:12] for entry in _entries() if _mentions(claim, entry)]
    return {"verdict": verdict, "changelog": mine}


def _accepted() -> dict[str, dict]:
    if not file().exists():
        return {}
    accepted = claims.read_json(file())
    if not all(isinstance(old, dict) and {"verdict", "changelog"} <= old.keys() for old in accepted.values()):
        raise UserError(f"{file()} is damaged; restore it from git")
    return accepted


def _write(accepted: dict[str, dict]) -> None:
    write_file(file(), json.dumps(dict(sorted(accepted.items())), indent=1) + "\n")


def _entries() -> list[str]:
    """The entries of CHANGELOG.md (list items and paragraphs), each on one line."""
    path = root() / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [" ".join(entry.split()) for entry in re.split(r"\n\s*\n|\n(?=\s*[-*#]+ )", text) if entry.strip()]


def _mentions(claim: str, entry: str) -> re.Match | None:
    return re.search(rf"(?<![\w-]){re.escape(claim)}(?![\w-])", entry)


def _told(claim: str, verdict: str, entries: list[str], known: list[str]) -> bool:
    """Whether an entry that is not among the `known` ones names the claim and then this verdict.

    The verdict stands before the next name in backticks ("`a` went from supported to contradicted"), or else it is the
    first one after it ("`a` and `b` are supported, `c` is inconclusive").
    """
    word = "|".join(claims.VERDICTS)
    for entry in entries:
        mention = _mentions(claim, entry)
        if mention and sources.sha(entry)[:12] not in known:
            rest = entry[mention.end() :].removeprefix("`")
            near = re.findall(word, rest.partition("`")[0]) or re.findall(word, rest)[:1]
            if verdict in near:
                return True
    return False
