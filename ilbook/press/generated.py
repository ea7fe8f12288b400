"""What is made when the book is built and put into its pages: ledger, map of methods, tables of demonstrations."""

import re
from collections import Counter
from collections.abc import Iterable

from ilbook.page.claims import VERDICTS
from ilbook.paths import root
from ilbook.press import learnability, methods, results
from ilbook.press import notebook as notebooks
from ilbook.press.layout import cells, interval

BADGES = {  # word -> colour of its badge; failures are shown as loudly as successes
    "supported": "success", "contradicted": "danger", "inconclusive": "warning", "not evaluated": "secondary",
    "planned": "light", "draft": "secondary", "faithful": "info", "reproduced": "success",
}  # fmt: skip
STALE = " {bdg-dark}`stale`"
CLAIMS = "claim: {sentence} (`{id}`) | profile: {profile} | verdict: {verdict} | effect (95 % interval): {interval} | "
CLAIMS += "asked for: {minimum:g} | could be seen: {smallest_visible:.3f} | sample: {sample} | commit: {commit}"
METHODS = "method: {title} | year: {year} | status: {status} | page: {page} | claims: {claims}"


def badge(word: str) -> str:
    """A coloured badge that says `word`."""
    return f"{{bdg-{BADGES[word]}}}`{word}`"


def _plain(text: object) -> str:
    """Text that Markdown takes literally, for a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", " ".join(str(text).split()))


def _page(notebook: str) -> tuple[str, str]:
    """The title of a notebook and a link to its page, by its id."""
    (book,) = map(notebooks.read, notebooks.choose(root(), [notebook]))
    return book.title, f"{{doc}}`{book.part}/{notebook}`"


def _table(rows: Iterable[dict], columns: str) -> str:
    """A Markdown table, as `layout.cells` says."""
    head, *lines = cells(rows, columns)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def ledger() -> str:
    """Every declared claim and its verdict, as Markdown."""
    rows = results.rows()
    if not rows:
        return "No notebook declares a claim yet."
    lines = []
    for profile in results.PROFILES:
        mine = [row for row in rows if row["profile"] == profile]
        counts, stale = Counter(row["verdict"] for row in mine), sum(row["stale"] for row in mine)
        words = ", ".join(f"{badge(verdict)} {counts[verdict]}" for verdict in VERDICTS)
        lines.append(f"- Profile `{profile}`: {words}" + (f";{STALE} {stale}" if stale else ""))
    for name in dict.fromkeys(row["notebook"] for row in rows):
        title, link = _page(name)
        lines += ["", f"## {title}", "", f"Declared and judged in {link}.", ""]
        mine = [row for row in rows if row["notebook"] == name]
        lines.append(_table(map(_line, mine), CLAIMS))
        stale = {row["profile"]: row["why"] for row in mine if row["stale"]}
        lines += ["", *(f"- The {profile} result is stale: {_plain(why)}." for profile, why in stale.items())]
    return "\n".join(lines)


def _line(row: dict) -> dict:
    seeds = {0: "no training", 1: "1 seed"}.get(row["seeds"], f"{row['seeds']} seeds")
    return row | {
        "sentence": _plain(row["sentence"]),
        "verdict": "; ".join(filter(None, [badge(row["verdict"]) + STALE * row["stale"], row["replications"]])),
        "interval": interval(row),
        "sample": None if row["effect"] is None else f"n = {row['n']}, {seeds}",
        "commit": row["commit"] and f"`{row['commit']}`",
    }


def method_map() -> str:
    """Every method of the book and how far it has come, as Markdown."""
    rows = methods.rows()
    verdicts: dict[tuple[str, str], list[str]] = {}
    for claim in results.rows():
        verdicts.setdefault((claim["method"], claim["id"]), []).append(claim["verdict"])
    counts = Counter(row["status"] for row in rows)
    lines = [", ".join(f"{badge(status)} {counts[status]}" for status in methods.STATUSES if counts[status]) + "."]
    for part, caption in methods.PARTS.items():
        mine = [row for row in rows if row["part"] == part]
        if mine:
            lines += ["", f"## {caption}", ""]
            lines.append(_table([_method(row, verdicts) for row in mine], METHODS))
    return "\n".join(lines)


def _method(row: dict, verdicts: dict[tuple[str, str], list[str]]) -> dict:
    title, tested = _plain(row["title"]), []
    for claim in row["claims"]:
        words = dict.fromkeys(verdicts[row["slug"], claim])
        decided = [word for word in words if word != "not evaluated"]
        tested.append(f"`{claim}` " + " ".join(badge(word) for word in decided or words))
    return row | {
        "title": f"[{title}](https://arxiv.org/abs/{row['arxiv']})" if row["arxiv"] else title,
        "status": badge(row["status"]),
        "page": row["notebook"] and _page(row["notebook"])[1],
        "claims": ", ".join(tested) or None,
    }


def data_sets() -> str:
    """The shipped demonstrations and how well a plain policy clones each, as a table."""
    from ilbook.press.demos import RECIPES

    rows, form = [], "{success:.3f} ({low:.3f} to {high:.3f})"
    for row in learnability.rows():
        result = row["result"]
        success = form.format(**result) if result else badge("not evaluated")
        row |= {"what": _plain(RECIPES[row["set"]].what), "kb": row["bytes"] / 1e3, "n": result and result["n"]}
        rows.append(row | {"success": success + STALE * row["stale"]})
    columns = "set: `{set}` | what it is: {what} | episodes: {episodes} | steps: {steps:,} | size: {kb:,.0f} kB"
    return _table(rows, columns + " | success of a plain clone (95 % interval): {success} | n: {n}")


def plain_policies() -> str:
    """The settings of the plain policy for each task, as a table."""
    columns = "task: {task} | predicts: {horizon} | executes: {n_exec} | training steps: {steps:,}"
    columns += " | hidden layers: {depth} x {width} | batch: {batch} | learning rate: {learning_rate:g}"
    return _table([{"task": task, **vars(plain)} for task, plain in learnability.PLAIN.items()], columns)
