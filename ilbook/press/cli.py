"""The `ilbook` command. Handlers import what they need when they are called, so that every command starts quickly."""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ilbook.errors import UserError, unknown
from ilbook.press.cli_answer import Answer, columns, whole

ROW_KEYS = ("id", "status", "seconds", "peak_mb", "claims")
CLAIM_KEYS = (
    "id", "method", "notebook", "sentence", "verdict", "effect", "low", "high", "minimum", "n", "seeds",
    "profile", "stale", "why", "commit", "smallest_visible", "replications",
)  # fmt: skip
FEW_VIDEOS = 3  # more than that: name their folder


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 good, 1 something failed, 2 wrong input, 130 interrupted)."""
    try:
        arguments = _parser().parse_args(_known(sys.argv[1:] if argv is None else list(argv)))
        with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
            answer = arguments.handler(arguments)
        print(json.dumps(answer.rows, indent=1, allow_nan=False) if arguments.json else answer.text, flush=True)
    except UserError as error:
        print(f"ilbook: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ilbook: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return answer.status


def _known(argv: list[str]) -> list[str]:
    """`argv`, or the error that names the nearest command."""
    commands = ["run", "book", "hygiene", "claims", "audit", "methods", "tasks", "data", "doctor"]
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise unknown("command", argv[0], commands)
    if argv[:1] == ["data"] and len(argv) > 1 and not argv[1].startswith("-"):
        from ilbook.press import cli_data

        if argv[1] not in cli_data.COMMANDS:
            raise unknown("data command", argv[1], cli_data.COMMANDS)
    return argv


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ilbook", description="Run, check and publish the notebooks of the book.", allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, handler, text: str, into=commands) -> argparse.ArgumentParser:
        added = into.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.add_argument("--json", action="store_true", help="print JSON and nothing else on standard output")
        added.set_defaults(handler=handler)
        return added

    run = command("run", _run, "Execute notebooks; unchanged ones are reused.")
    run.add_argument("ids", nargs="*", metavar="ID", help="notebook ids such as 01_first_policy (default: all)")
    run.add_argument("--seed", type=whole, help="the seed that fixes every number (default: the notebook's own)")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value for a parameter")
    run.add_argument("--publish", action="store_true", help="copy the results to data/results, to be committed")
    book = command("book", _book, "Execute all notebooks and build the site in build/site.")
    for added in (run, book):
        added.add_argument("--profile", default="lecture", help="smoke, lecture (default) or full")
        added.add_argument(
            "--jobs", type=whole, default=1, metavar="N", help="notebooks at a time; they share the cores"
        )
        added.add_argument(
            "--timeout", type=float, metavar="S", help="seconds a notebook may take (default: by profile)"
        )
        added.add_argument("--fresh", action="store_true", help="reuse neither executed notebooks nor trainings")
    hygiene = command("hygiene", _hygiene, "Check the rules for notebooks.")
    hygiene.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="notebook files (default: all)")
    hygiene.add_argument("--strip", action="store_true", help="first remove outputs and editor metadata from the files")
    claims = command("claims", _claims, "List every declared claim with its verdict.")
    claims.add_argument("--check", action="store_true", help="status 1 if a published verdict changed or is stale")
    claims.add_argument("--accept", action="store_true", help="record changed verdicts that CHANGELOG.md tells of")
    audit = command("audit", _audit, "Run published pages again, drawn at random, and with other seeds.")
    audit.add_argument("--pages", type=whole, default=2, metavar="N", help="pages to draw (default: 2)")
    audit.add_argument("--seeds", type=whole, default=1, metavar="N", help="further seeds for each page (default: 1)")
    audit.add_argument("--profile", default="lecture", help="whose results: lecture (default) or full")
    audit.add_argument("--draw", type=whole, metavar="SEED", help="draw the pages that an earlier audit drew")
    command("methods", _methods, "List the methods of the book and how far each one has come.")
    command("tasks", _tasks, "List the simulated tasks.")
    command("doctor", _doctor, "Check this machine; every failing line says what to do.")

    from ilbook.press import cli_data

    cli_data.add(commands, command)
    return parser


def _run(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import execute, progress

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end like Ctrl-C: no kernel is left behind
    rows = execute.run(
        arguments.ids,
        arguments.profile,
        arguments.seed,
        arguments.jobs,
        arguments.set,
        fresh=arguments.fresh,
        publish=arguments.publish,
        timeout=arguments.timeout,
        progress=sys.stderr,
    )
    text = "\n".join([progress.table(rows), *(line for row in rows for line in _where(row))])
    bad = any(row["status"] not in execute.GOOD for row in rows)
    return Answer([{key: row[key] for key in ROW_KEYS} for row in rows], text, int(bad))


def _where(row: dict) -> list[str]:
    """Where the page and the videos of one row lie."""
    lines = []
    if row["page"]:
        what = "up to the error" if row["page"].name.endswith(".failed.html") else "page"
        lines.append(f"{row['id']} {what}: {_near(row['page'])}")
    videos = row["videos"]
    if len(videos) > FEW_VIDEOS:
        lines.append(f"{row['id']} videos ({len(videos)}): {_near(videos[0].parent)}")
    else:
        lines += [f"{row['id']} video: {_near(video)}" for video in videos]
    return lines


def _near(path: Path) -> str:
    """`path` as one would type it from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _book(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import execute, stage

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = execute.run(
        [],
        arguments.profile,
        jobs=arguments.jobs,
        fresh=arguments.fresh,
        timeout=arguments.timeout,
        progress=sys.stderr,
    )
    failed = [row["id"] for row in rows if row["status"] not in execute.GOOD]
    if failed:
        return Answer({"site": None, "failed": failed}, f"no site was built, because of {', '.join(failed)}", 1)
    print("Building the site", file=sys.stderr, flush=True)
    site = stage.build(arguments.profile)
    return Answer({"site": _near(site), "failed": []}, f"site: {_near(site / 'index.html')}")


def _hygiene(arguments: argparse.Namespace) -> Answer:
    from ilbook.paths import root
    from ilbook.press import hygiene, notebook

    paths = arguments.paths or notebook.paths(root())
    stripped = [path for path in paths if hygiene.strip(path)] if arguments.strip else []
    problems = hygiene.check(paths)
    lines = [f"stripped {_near(path.resolve())}" for path in stripped]
    lines += [str(problem) for problem in problems]
    lines.append(f"{len(paths)} notebooks checked, {len(problems)} problems")
    return Answer([problem.record() for problem in problems], "\n".join(lines), int(bool(problems)))


def _claims(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import results

    if arguments.check or arguments.accept:
        return _check_claims(arguments.accept)
    rows = [{key: row[key] for key in CLAIM_KEYS} for row in results.rows()]
    lines = [("claim", "notebook", "profile", "verdict", "effect (95 % interval)", "minimum", "n", "seeds", "")]
    for row in rows:
        where = (row["id"], row["notebook"], row["profile"])
        sample = (f"{row['minimum']:g}", _or_dash(row["n"]), _or_dash(row["seeds"]))
        lines.append((*where, row["verdict"], _interval(row), *sample, "stale" if row["stale"] else ""))
    return Answer(rows, columns(lines) if rows else "no notebook declares a claim")


def _check_claims(accept: bool) -> Answer:
    """Which published verdicts changed without an entry in CHANGELOG.md, which are stale, and why."""
    from ilbook.press import ledger

    lines = [f"recorded: {claim}" for claim in (ledger.accept() if accept else [])]
    rows = ledger.rows()
    for row in rows:
        name = f"{row['id'] or 'no claim'} ({row['notebook']}, {row['profile']})"
        lines += [f"FAIL  {name}: {problem}" for problem in row["problems"]]
        lines += [f"note  {name}: {row['note']}"] if row["note"] else []
    bad = sum(bool(row["problems"]) for row in rows)
    lines.append(f"{len(rows)} published verdicts checked, {bad} with a problem")
    return Answer(rows, "\n".join(lines), int(bad > 0))


def _audit(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import audit

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = audit.run(arguments.pages, arguments.seeds, arguments.profile, arguments.draw, sys.stderr)
    return Answer(rows, "\n".join(audit.words(row) for row in rows), int(not all(row["ok"] for row in rows)))


def _interval(row: dict) -> str:
    if row["effect"] is None:
        return "-"
    return f"{row['effect']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _methods(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import methods

    rows = methods.rows()
    lines = [("method", "year", "part", "status", "notebook", "claims")]
    for row in rows:
        notebook, claims = _or_dash(row["notebook"]), ", ".join(row["claims"]) or "-"
        lines.append((row["slug"], str(row["year"]), row["part"], row["status"], notebook, claims))
    return Answer(rows, columns(lines))


def _tasks(arguments: argparse.Namespace) -> Answer:
    from ilbook import tasks

    rows = tasks.describe()
    lines = [("task", "Gymnasium id", "obs", "action", "Hz", "steps", "what it is")]
    for row in rows:
        sizes = (row[key] for key in ("obs", "action", "hz", "max_steps"))
        lines.append((row["name"], row["gym_id"], *(f"{size:g}" for size in sizes), row["summary"]))
    shifts = [("task", "perturbation", "what strength 1 does")]
    shifts += [(row["name"], name, effect) for row in rows for name, effect in row["perturbations"].items()]
    return Answer(rows, f"{columns(lines)}\n\n{columns(shifts)}")


def _doctor(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import doctor

    rows = doctor.checks()
    lines = []
    for row in rows:
        lines.append(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['check']}: {row['detail']}")
        if not row["ok"]:
            lines.append(f"      {row['fix']}")
    return Answer(rows, "\n".join(lines), int(not all(row["ok"] for row in rows)))


if __name__ == "__main__":
    sys.exit(main())
