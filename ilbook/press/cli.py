"""The `ilbook` command. Handlers import what they need when they are called, so that every command starts quickly."""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, NoReturn

from ilbook import press
from ilbook.errors import UserError, unknown
from ilbook.paths import root
from ilbook.press.layout import GOOD, interval, table


class Answer(NamedTuple):
    """What a command has to say: rows for --json, text for people, the exit status."""

    rows: object
    text: str
    status: int = 0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown(f"{self.prog.removeprefix('ilbook')} {action.metavar.lower()}".strip(), value, action.choices)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 good, 1 something failed, 2 wrong input, 130 interrupted)."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: no kernel and no temporary file is left behind
        if signal.getsignal(number) is signal.SIG_DFL:  # else nohup, or a caller, has its own
            signal.signal(number, signal.default_int_handler)
    try:
        arguments = _parser().parse_args(argv)
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


def _parser() -> Parser:
    parser = Parser(prog="ilbook", description="Run, check and publish the notebooks of the book.", allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, handler, text: str, into=commands) -> argparse.ArgumentParser:
        added = into.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.add_argument("--json", action="store_true", help="print JSON and nothing else on standard output")
        added.set_defaults(handler=handler)
        return added

    run = command("run", _run, "Execute notebooks; unchanged ones are reused.")
    run.add_argument("ids", nargs="*", metavar="ID", help="notebook ids such as 01_first_policy (default: all)")
    run.add_argument("--seed", type=_whole, help="the seed that fixes every number (default: the notebook's own)")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value for a parameter")
    run.add_argument("--publish", action="store_true", help="copy the results to data/results, to be committed")
    book = command("book", _book, "Execute all notebooks and build the site in build/site.")
    book.set_defaults(ids=[], seed=None, set=[], publish=False)
    for added in (run, book):
        added.add_argument("--profile", default="lecture", help="smoke, lecture (default) or full")
        added.add_argument("--jobs", type=_whole, default=1, metavar="N", help="notebooks at a time; they share cores")
        added.add_argument("--timeout", type=float, metavar="S", help="seconds for a notebook (default: by profile)")
        added.add_argument("--fresh", action="store_true", help="reuse neither executed notebooks nor trainings")
    hygiene = command("hygiene", _hygiene, "Check the rules for notebooks.")
    hygiene.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="notebook files (default: all)")
    hygiene.add_argument("--strip", action="store_true", help="first remove outputs and editor metadata from the files")
    claims = command("claims", _claims, "List every declared claim with its verdict.")
    claims.add_argument("--check", action="store_true", help="status 1 if a published verdict changed or is stale")
    claims.add_argument("--accept", action="store_true", help="record changed verdicts that CHANGELOG.md tells of")
    new = command("new", _new, "Write the skeleton of a task, a policy or a page; CONTRIBUTING.md tells how to go on.")
    new.add_argument("kind", choices=("task", "policy", "page"), metavar="KIND", help="task, policy or page")
    new.add_argument("name", metavar="NAME", help="a word such as reach; PART/NN_slug for a page")
    audit = command("audit", _audit, "Run published pages again, drawn at random, and with other seeds.")
    audit.add_argument("--pages", type=_whole, default=2, metavar="N", help="pages to draw (default: 2)")
    audit.add_argument("--seeds", type=_whole, default=1, metavar="N", help="further seeds for each page (default: 1)")
    audit.add_argument("--profile", default="lecture", help="whose results: lecture (default) or full")
    audit.add_argument("--draw", type=_whole, metavar="SEED", help="draw the pages that an earlier audit drew")
    command("methods", _methods, "List the methods of the book and how far each one has come.")
    command("tasks", _tasks, "List the simulated tasks.")
    command("doctor", _doctor, "Check this machine; every failing line says what to do.")

    data = commands.add_parser("data", help="Make, check, measure or convert demonstrations.", allow_abbrev=False)
    of_data = data.add_subparsers(title="commands", required=True, metavar="COMMAND")
    make = command("make", _data_make, "Make a shipped data set again.", of_data)
    make.add_argument("name", help="a data set such as pusht")
    make.add_argument("--out", type=Path, help=".npz file to write (default: where the book expects it)")
    make.add_argument("--seed", type=_whole, help="seed of the starts and of the expert's noise")
    make.add_argument("--n", type=_whole, help="number of demonstrations")
    command("check", _data_check, "Check every shipped demonstration file against the manifest.", of_data)
    learn = command("learn", _data_learn, "Clone the shipped data sets plainly; record the success.", of_data)
    describe = command("describe", _data_describe, "Length, speed, rests and consistency of demonstrations.", of_data)
    for added in (learn, describe):
        added.add_argument("names", nargs="*", metavar="NAME", help="data sets such as pusht (default: all)")
    describe.add_argument("--human", type=Path, metavar="ZARR", help="also the human PushT data; keep their figures")
    import_ = command("import", _data_import, "Convert a data set of any known format to our own.", of_data)
    import_.add_argument("source", help="LeRobotDataset v3, Diffusion Policy's zarr, robomimic or Minari HDF5")
    import_.add_argument("target", type=Path, help="NAME.npz, or another name for a folder of arrays")
    export = command("export", _data_export, "Convert episodes to a format of the field.", of_data)
    export.add_argument("source", help="a file or folder of episodes, or the name of a shipped data set")
    export.add_argument("target", type=Path, help="what to write")
    export.add_argument("--format", required=True, help="lerobot, zarr or hdf5")
    export.add_argument("--video", action="store_true", help="pictures as h264: smaller, with small errors (lerobot)")
    for added in (import_, export):
        added.add_argument("--force", action="store_true", help="replace the target if it exists")
        added.add_argument("--arrays", nargs="+", metavar="A", help="only these, which must fit (default: all that do)")
        added.add_argument("--fps", type=float, help="frames a second, where the source does not say")
        added.add_argument("--tolerance", type=float, metavar="S", help="seconds that LeRobot's timestamps may be off")
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _execute(a: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """The rows of a run, and the notebooks that failed."""
    options = {name: getattr(a, name) for name in ("profile", "seed", "jobs", "fresh", "publish", "timeout")}
    rows = press.execute.run(a.ids, overrides=a.set, progress=sys.stderr, **options)
    return rows, [row["id"] for row in rows if row["status"] not in GOOD]


def _run(a: argparse.Namespace) -> Answer:
    rows, failed = _execute(a)
    measured = ": {id} is {verdict} (effect {effect:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, n = {n})"
    shown, told, places = [], [], []
    for row in rows:
        verdicts = Counter(claim["verdict"] for claim in row["claims"])
        shown.append(row | {"claims": ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())})
        judged = [claim for claim in row["claims"] if claim["verdict"] != "not evaluated"]
        told += [row["id"] + measured.format(**claim) for claim in judged]
        if row["status"] in GOOD:
            places.append(f"{row['id']} page: {os.path.relpath(row['page'])}")
            places.append(f"{row['id']} numbers and videos: {os.path.relpath(row['out'])}")
    # Numbers as wide as their headings, so that they are aligned on the right.
    columns = "notebook: {id} | status: {status} | seconds: {seconds:7.1f} | peak MB: {peak_mb:7.0f} | claims: {claims}"
    text = "\n".join([table(shown, columns), *told, *places])
    kept = [{key: row[key] for key in ("id", "status", "seconds", "peak_mb", "claims")} for row in rows]
    return Answer(kept, text, int(bool(failed)))


def _book(a: argparse.Namespace) -> Answer:
    _, failed = _execute(a)
    if failed:
        return Answer({"site": None, "failed": failed}, f"no site was built, because of {', '.join(failed)}", 1)
    print("Building the site", file=sys.stderr, flush=True)
    site = press.stage.build(a.profile)
    return Answer({"site": os.path.relpath(site), "failed": []}, f"site: {os.path.relpath(site / 'index.html')}")


def _hygiene(a: argparse.Namespace) -> Answer:
    paths = a.paths or press.notebook.choose(root(), [])
    stripped = [path for path in paths if a.strip and press.hygiene.strip(path)]
    problems = press.hygiene.check(paths)
    lines = [*(f"stripped {os.path.relpath(path.resolve())}" for path in stripped), *map(str, problems)]
    lines.append(f"{len(paths)} notebooks checked, {len(problems)} problems")
    return Answer([asdict(problem) for problem in problems], "\n".join(lines), int(bool(problems)))


def _new(a: argparse.Namespace) -> Answer:
    paths, then = press.new.stamp(a.kind, a.name)
    lines = [*(f"written: {os.path.relpath(path)}" for path in paths), "type next:", *(f"  {line}" for line in then)]
    return Answer({"written": [str(path) for path in paths], "next": then}, "\n".join(lines))


def _claims(a: argparse.Namespace) -> Answer:
    if a.check or a.accept:
        return _check_claims(a.accept)
    rows = press.results.rows()
    shown = [row | {"effect": interval(row), "old": "stale" if row["stale"] else ""} for row in rows]
    columns = "claim: {id} | notebook: {notebook} | profile: {profile} | verdict: {verdict} | "
    columns += "effect (95 % interval): {effect} | minimum: {minimum:g} | n: {n} | seeds: {seeds} | : {old}"
    return Answer(rows, table(shown, columns) if rows else "no notebook declares a claim")


def _check_claims(accept: bool) -> Answer:
    """Which published verdicts changed without an entry in CHANGELOG.md, which are stale, and why."""
    lines = [f"recorded: {claim}" for claim in (press.ledger.accept() if accept else [])]
    rows = press.ledger.rows()
    for row in rows:
        name = f"{row['id'] or 'no claim'} ({row['notebook']}, {row['profile']})"
        lines += [f"FAIL  {name}: {problem}" for problem in row["problems"]]
        lines += [f"note  {name}: {row['note']}"] if row["note"] else []
    bad = sum(bool(row["problems"]) for row in rows)
    lines.append(f"{len(rows)} published verdicts checked, {bad} with a problem")
    return Answer(rows, "\n".join(lines), int(bad > 0))


def _audit(a: argparse.Namespace) -> Answer:
    rows = press.audit.run(a.pages, a.seeds, a.profile, a.draw, sys.stderr)
    return Answer(rows, "\n".join(map(press.audit.words, rows)), int(not all(row["ok"] for row in rows)))


def _methods(a: argparse.Namespace) -> Answer:
    rows = press.methods.rows()
    shown = [row | {"claims": ", ".join(row["claims"]) or None} for row in rows]
    columns = "method: {slug} | year: {year} | part: {part} | status: {status} | notebook: {notebook}"
    return Answer(rows, table(shown, columns + " | claims: {claims}"))


def _tasks(a: argparse.Namespace) -> Answer:
    from ilbook import tasks

    rows = []
    for task in map(tasks.find, tasks.names()):
        row = {"name": task.name, "gym_id": task.gym_id, "obs": len(task.obs_names), "action": len(task.action_low)}
        row |= {"hz": task.control_hz, "max_steps": task.max_steps, "summary": task.__doc__.partition("\n")[0]}
        rows.append(row | {"perturbations": dict(task.perturbations)})
    columns = "task: {name} | Gymnasium id: {gym_id} | obs: {obs} | action: {action} | Hz: {hz:g} | steps: {max_steps}"
    text = table(rows, columns + " | what it is: {summary}")
    shifts = [{**row, "shift": shift, "effect": text} for row in rows for shift, text in row["perturbations"].items()]
    effects = table(shifts, "task: {name} | perturbation: {shift} | what strength 1 does: {effect}")
    return Answer(rows, f"{text}\n\n{effects}")


def _doctor(a: argparse.Namespace) -> Answer:
    rows = press.doctor.checks()
    ok, fail = "ok    {check}: {detail}", "FAIL  {check}: {detail}\n      {fix}"
    lines = [(ok if row["ok"] else fail).format(**row) for row in rows]
    return Answer(rows, "\n".join(lines), int(not all(row["ok"] for row in rows)))


def _data_make(a: argparse.Namespace) -> Answer:
    path = press.demos.make(a.name, out=a.out, seed=a.seed, n=a.n)
    return Answer({"written": str(path)}, f"written: {path}")


def _data_check(a: argparse.Namespace) -> Answer:
    from ilbook.data import manifest

    names = manifest.check()
    return Answer(names, f"{len(names)} data sets agree with the manifest")


def _data_learn(a: argparse.Namespace) -> Answer:
    rows = press.learnability.measure(a.names, progress=sys.stderr)
    success = "success (95 % interval): {success:.3f} ({low:.3f} to {high:.3f})"
    return Answer(rows, table(rows, f"data set: {{set}} | {success} | n: {{n}} | trained: {{train_seconds}} s"))


def _data_describe(a: argparse.Namespace) -> Answer:
    from ilbook import data, tasks
    from ilbook.data import manifest
    from ilbook.data.describe import describe
    from ilbook.formats import human

    entries = manifest.entries()
    rows = {}
    for name in a.names or entries:
        episodes = data.load(name, pictures=False)
        rows[name] = describe(episodes, tasks.get(entries[name]["task"]).control_hz)
    if a.human is not None:
        rows["human pusht"] = human.write_figures(a.human)
    columns = ["data set: {set}", *(f"{key}: {{{key}:.4g}}" for key in next(iter(rows.values())))]
    return Answer(rows, table([{"set": name, **row} for name, row in rows.items()], " | ".join(columns)))


def _data_import(a: argparse.Namespace) -> Answer:
    from ilbook import formats

    return _converted(formats.import_(a.source, a.target, a.force, _arrays(a), a.fps, a.tolerance))


def _data_export(a: argparse.Namespace) -> Answer:
    from ilbook import formats

    options = {"arrays": _arrays(a), "fps": a.fps, "video": a.video, "tolerance": a.tolerance}
    return _converted(formats.export(a.source, a.target, a.format, a.force, **options))


def _arrays(a: argparse.Namespace) -> list[str] | None:
    """Names with blanks or commas between them."""
    return a.arrays and [name for text in a.arrays for name in text.split(",") if name]


def _converted(row: dict) -> Answer:
    lines = ["written: {written}, {episodes} episodes, {steps} steps, arrays ".format(**row) + ", ".join(row["arrays"])]
    lines += [f"left out: {name} ({why})" for name, why in row["left_out"].items()]
    lines += ["--arrays says which arrays to take and refuses misfits"] * bool(row["left_out"])
    return Answer(row, "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
