"""What is made when the book is built and put into its pages: ledger, map of methods, tables of demonstrations."""

import re
from collections import Counter

from ilbook.page.claims import VERDICTS
from ilbook.paths import root
from ilbook.press import learnability, methods, results
from ilbook.press import notebook as notebooks
from ilbook.press.layout import interval

BADGES = {  # word -> colour of its badge; failures are shown as loudly as successes
    "supported": "success",
    "contradicted": "danger",
    "inconclusive": "warning",
    "not evaluated": "secondary",
    "planned": "light",
    "draft": "secondary",
    "faithful": "info",
    "reproduced": "success",
}


def badge(word: str) -> str:
    """A coloured badge that says `word`."""
    return f"{{bdg-{BADGES[word]}}}`{word}`"


def _plain(text: object) -> str:
    """Text that Markdown takes literally, for a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", " ".join(str(text).split()))


def _book(notebook: str) -> notebooks.Notebook:
    (path,) = notebooks.choose(root(), [notebook])
    return notebooks.read(path)


def _page(notebook: str) -> str:
    """A link to the page of a notebook, by its id."""
    return f"{{doc}}`{_book(notebook).part}/{notebook}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


def ledger() -> str:
    """Every declared claim and its verdict, as Markdown."""
    rows = results.rows()
    if not rows:
        return "No notebook declares a claim yet."
    lines = []
    for profile in results.PROFILES:
        counts = Counter(row["verdict"] for row in rows if row["profile"] == profile)
        stale = sum(row["stale"] for row in rows if row["profile"] == profile)
        words = ", ".join(f"{badge(verdict)} {counts[verdict]}" for verdict in VERDICTS)
        lines.append(f"- Profile `{profile}`: {words}" + (f"; {{bdg-dark}}`stale` {stale}" if stale else ""))
    head = ("claim", "profile", "verdict", "effect (95 % interval)", "asked for", "could be seen", "sample", "commit")
    for name in dict.fromkeys(row["notebook"] for row in rows):
        lines += ["", f"## {_book(name).title}", "", f"Declared and judged in {_page(name)}.", ""]
        mine = [row for row in rows if row["notebook"] == name]
        lines += _table(head, [_line(row) for row in mine])
        stale = {row["profile"]: row["why"] for row in mine if row["stale"]}
        lines += ["", *(f"- The {profile} result is stale: {_plain(why)}." for profile, why in stale.items())]
    return "\n".join(lines)


def _line(row: dict) -> tuple[str, ...]:
    sentence = f"{_plain(row['sentence'])} (`{row['id']}`)"
    verdict = badge(row["verdict"]) + (" {bdg-dark}`stale`" if row["stale"] else "")
    verdict += f"; {row['replications']}" if row["replications"] else ""
    visible = "–" if row["smallest_visible"] is None else f"{row['smallest_visible']:.3f}"
    seeds = {0: "no training", 1: "1 seed"}.get(row["seeds"], f"{row['seeds']} seeds")
    sample = "–" if row["effect"] is None else f"n = {row['n']}, {seeds}"
    commit = f"`{row['commit']}`" if row["commit"] else "–"
    return sentence, row["profile"], verdict, interval(row), f"{row['minimum']:g}", visible, sample, commit


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
            lines += _table(("method", "year", "status", "page", "claims"), [_method(row, verdicts) for row in mine])
    return "\n".join(lines)


def _method(row: dict, verdicts: dict[tuple[str, str], list[str]]) -> tuple[str, ...]:
    title = _plain(row["title"])
    if row["arxiv"]:
        title = f"[{title}](https://arxiv.org/abs/{row['arxiv']})"
    page = _page(row["notebook"]) if row["notebook"] else "–"
    tested = []
    for claim in row["claims"]:
        words = dict.fromkeys(verdicts[row["slug"], claim])
        decided = [word for word in words if word != "not evaluated"]
        tested.append(f"`{claim}` " + " ".join(badge(word) for word in decided or words))
    return title, str(row["year"]), badge(row["status"]), page, ", ".join(tested) or "–"


def data_sets() -> str:
    """The shipped demonstrations and how well a plain policy clones each, as a table."""
    from ilbook.press.demos import RECIPES

    head = ("set", "what it is", "episodes", "steps", "size", "success of a plain clone (95 % interval)", "n")
    return "\n".join(_table(head, [_set(row, RECIPES[row["set"]].what) for row in learnability.rows()]))


def _set(row: dict, what: str) -> tuple[str, ...]:
    result, success, n, size = row["result"], badge("not evaluated"), "–", f"{row['bytes'] / 1e3:,.0f} kB"
    if result is not None:
        stale = " {bdg-dark}`stale`" if row["stale"] else ""
        success = f"{result['success']:.3f} ({result['low']:.3f} to {result['high']:.3f}){stale}"
        n = str(result["n"])
    return f"`{row['set']}`", _plain(what), str(row["episodes"]), f"{row['steps']:,}", size, success, n


def plain_policies() -> str:
    """The settings of the plain policy for each task, as a table."""
    rows = []
    for task, p in learnability.PLAIN.items():
        sizes = (f"{p.steps:,}", f"{p.depth} x {p.width}", str(p.batch), f"{p.learning_rate:g}")
        rows.append((task, str(p.horizon), str(p.n_exec), *sizes))
    head = ("task", "predicts", "executes", "training steps", "hidden layers", "batch", "learning rate")
    return "\n".join(_table(head, rows))
