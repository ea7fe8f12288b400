"""The pages that are written when the book is built: ledger of claims, map of methods, shipped demonstrations."""

import re
from collections import Counter
from pathlib import Path

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


def _paths() -> dict[str, Path]:
    return {path.stem: path for path in notebooks.paths(root())}


def _page(notebook: str) -> str:
    """A link to the page of a notebook, by its id."""
    return f"{{doc}}`{_paths()[notebook].parent.name}/{notebook}`"


def _title(notebook: str) -> str:
    return notebooks.read(_paths()[notebook]).cells[0].source.splitlines()[0].lstrip("# ").strip()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


def ledger() -> str:
    """The page with every declared claim and its verdict, as Markdown."""
    rows = results.rows()
    lines = ["# Ledger of claims", "", LEDGER_INTRODUCTION, ""]
    if not rows:
        return "\n".join([*lines, "No notebook declares a claim yet.", ""])
    for profile in results.PROFILES:
        counts = Counter(row["verdict"] for row in rows if row["profile"] == profile)
        stale = sum(row["stale"] for row in rows if row["profile"] == profile)
        words = ", ".join(f"{badge(verdict)} {counts[verdict]}" for verdict in VERDICTS)
        lines.append(f"- Profile `{profile}`: {words}" + (f"; {{bdg-dark}}`stale` {stale}" if stale else ""))
    head = ("claim", "profile", "verdict", "effect (95 % interval)", "asked for", "could be seen", "sample", "commit")
    for name in dict.fromkeys(row["notebook"] for row in rows):
        lines += ["", f"## {_title(name)}", "", f"Declared and judged in {_page(name)}.", ""]
        mine = [row for row in rows if row["notebook"] == name]
        lines += _table(head, [_line(row) for row in mine])
        stale = {row["profile"]: row["why"] for row in mine if row["stale"]}
        lines += ["", *(f"- The {profile} result is stale: {_plain(why)}." for profile, why in stale.items())]
    return "\n".join([*lines, ""])


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
    """The page with every method of the book and how far it has come, as Markdown."""
    rows = methods.rows()
    verdicts: dict[tuple[str, str], list[str]] = {}
    for claim in results.rows():
        verdicts.setdefault((claim["method"], claim["id"]), []).append(claim["verdict"])
    lines = ["# Map of methods", "", MAP_INTRODUCTION, ""]
    counts = Counter(row["status"] for row in rows)
    lines.append(", ".join(f"{badge(status)} {counts[status]}" for status in methods.STATUSES if counts[status]) + ".")
    for part, caption in methods.PARTS.items():
        mine = [row for row in rows if row["part"] == part]
        if mine:
            lines += ["", f"## {caption}", ""]
            lines += _table(("method", "year", "status", "page", "claims"), [_method(row, verdicts) for row in mine])
    return "\n".join([*lines, ""])


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
    """The page with the shipped demonstrations and how well a plain policy clones each, as Markdown."""
    from ilbook.press.demos import RECIPES

    rows = learnability.rows()
    lines = ["# Demonstrations in the book", "", DATA_INTRODUCTION, ""]
    head = ("set", "what it is", "episodes", "steps", "size", "success of a plain clone (95 % interval)", "n")
    lines += _table(head, [_set(row, RECIPES[row["set"]].what) for row in rows])
    lines += ["", "## The plain policy", "", PLAIN_INTRODUCTION, ""]
    names = ("task", "predicts", "executes", "training steps", "hidden layers", "batch", "learning rate")
    plain = []
    for task, p in learnability.PLAIN.items():
        sizes = (f"{p.steps:,}", f"{p.depth} x {p.width}", str(p.batch), f"{p.learning_rate:g}")
        plain.append((task, str(p.horizon), str(p.n_exec), *sizes))
    return "\n".join([*lines, *_table(names, plain), ""])


def _set(row: dict, what: str) -> tuple[str, ...]:
    result = row["result"]
    if result is None:
        success, n = badge("not evaluated"), "–"
    else:
        success = f"{result['success']:.3f} ({result['low']:.3f} to {result['high']:.3f})"
        success += " {bdg-dark}`stale`" if row["stale"] else ""
        n = str(result["n"])
    size = f"{row['bytes'] / 1e3:,.0f} kB"
    return f"`{row['set']}`", _plain(what), str(row["episodes"]), f"{row['steps']:,}", size, success, n


LEDGER_INTRODUCTION = """\
Every claim of the book, whatever became of it. A claim was written down before its run; the recorded episodes decided.
What the words mean, and why an interval is compared with the smallest effect that was asked for, stands in
{doc}`how_to_read`. *Could be seen* is the smallest effect that a comparison of this size can tell from none; *supported
in 4 of 5 seeds* counts runs of the whole page with other seeds. A result is *stale* when the code of its page, its data
or the behaviour of a part of the package that it used has changed since the commit that made it. This page is made from
the stored results each time the book is built; nobody edits it."""

MAP_INTRODUCTION = """\
The published systems that this book is to cover, part by part, and how far each one has come. *Planned*: nothing to
run yet. *Draft*: the notebook runs. *Faithful*: its mechanism was checked against the paper, and what differs is
listed. *Reproduced*, *contradicted* and *inconclusive*: what the full profile said about the paper's claim."""

DATA_INTRODUCTION = """\
All demonstrations that come with the book. Each set is made by one command, `ilbook data make NAME`, from the seed in
`data/manifest.json`, and loaded by `data.load("NAME")`. What a set is worth shows when it is cloned, so the table gives
the success of one plain policy on 200 new starts, measured with `ilbook data learn`. Where it succeeds nearly always, a
later method has little to add; where it seldom succeeds, there is room."""

PLAIN_INTRODUCTION = """\
A multilayer perceptron predicts the next actions relative to the present position, with a squared error; the first of
them are executed, then it looks again. One training, one seed, ten minutes at most on two cores. Sets with pictures are
cloned from their states here."""
