"""The accepted verdicts (data/results/verdicts.json), and the check that none has changed or aged in silence."""

import json
import re
from pathlib import Path

from ilbook.errors import UserError
from ilbook.page.claims import VERDICTS, published_path, read_json
from ilbook.page.versions import sha
from ilbook.paths import root, write_file
from ilbook.press import results
from ilbook.press.results import UNDECIDED as GONE


def file() -> Path:
    return root() / "data" / "results" / "verdicts.json"


def rows() -> list[dict]:
    """One row per published verdict; one that differs from the accepted needs an entry of CHANGELOG.md since."""
    accepted, entries, found = _accepted(), _entries(), []
    for stored in results.published():
        for claim, record in (stored.claims or {None: {"verdict": None}}).items():
            key = f"{stored.notebook}/{stored.profile}/{claim}"
            found.append(_row(key, record["verdict"], accepted.pop(key, {}), stored.stale, entries))
    return found + [_row(key, GONE, old, "", entries) for key, old in accepted.items()]


def _row(key: str, verdict: str | None, old: dict, stale: str, entries: list[str]) -> dict:
    notebook, profile, claim = key.split("/")
    was, problems, note = old.get("verdict"), [], ""
    if stale:
        problems.append(f"the published result is stale ({stale}); run and publish it again")
    if verdict != was:
        change = f"{was or 'not on record'} -> {verdict}" if verdict != GONE else f"{was} -> no longer published"
        fresh = [entry for entry in entries if sha(entry)[:12] not in old.get("changelog", [])]
        if verdict in [mention[1] for mention in (_mentions(claim, entry) for entry in fresh) if mention]:
            note = f"{change}, as CHANGELOG.md tells; record it with ilbook claims --accept"
        else:
            wanted = f"'{claim}' and then '{verdict}'"
            problems.append(f"the verdict changed ({change}); tell of it in CHANGELOG.md: {wanted}")
    row = {"id": None if claim == "None" else claim, "notebook": notebook, "profile": profile, "accepted": was}
    return row | {"verdict": verdict, "stale": bool(stale), "problems": problems, "note": note}


def accept() -> list[str]:
    """Record every changed verdict that CHANGELOG.md tells; returns the ids. The others stay as they are."""
    accepted, told = _accepted(), [row for row in rows() if row["note"]]
    for row in told:
        accepted["{notebook}/{profile}/{id}".format(**row)] = _record(row["id"], row["verdict"])
    _write({key: old for key, old in accepted.items() if old["verdict"] != GONE})
    return [row["id"] for row in told]


def publish(out: Path, notebook: str, profile: str) -> Path:
    """Copy the finished run in folder `out` to the committed results; the file. First verdicts go on record at once."""
    result = read_json(out / "result.json")
    if (result.get("notebook"), result.get("profile")) != (notebook, profile):
        raise UserError(f"{out / 'result.json'} is not a result of {notebook} in the {profile} profile; run it again")
    result.pop("token", None)  # it only ties a running kernel to its runner
    path = published_path(notebook, profile)
    both = {"result": result, "provenance": read_json(out / "provenance.json")}
    write_file(path, json.dumps(both, indent=1, allow_nan=False) + "\n")
    accepted = _accepted()
    for claim in result["claims"]:
        accepted.setdefault(f"{notebook}/{profile}/{claim['id']}", _record(claim["id"], claim["verdict"]))
    _write(accepted)
    return path


def _record(claim: str, verdict: str) -> dict:
    """What is kept of an accepted verdict: the entries that mention the claim so far tell of no later change."""
    mine = [sha(entry)[:12] for entry in _entries() if _mentions(claim, entry)]
    return {"verdict": verdict, "changelog": mine}


def _accepted() -> dict[str, dict]:
    if not file().exists():
        return {}
    accepted = read_json(file())
    if not all(isinstance(old, dict) and {"verdict", "changelog"} <= old.keys() for old in accepted.values()):
        raise UserError(f"{file()} is damaged; restore it from git")
    return accepted


def _write(accepted: dict[str, dict]) -> None:
    if accepted != _accepted():
        write_file(file(), json.dumps(dict(sorted(accepted.items())), indent=1) + "\n")


def _entries() -> list[str]:
    """The entries of CHANGELOG.md (list items and paragraphs), each on one line."""
    path = root() / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [" ".join(entry.split()) for entry in re.split(r"\n\s*\n|\n(?=\s*[-*#]+ )", text) if entry.strip()]


def _mentions(claim: str, entry: str) -> re.Match | None:
    """Where an entry names the claim; its group is the first verdict that follows."""
    return re.search(rf"(?<![\w-]){re.escape(claim)}(?![\w-])(?:.*?({'|'.join(VERDICTS)}))?", entry)
