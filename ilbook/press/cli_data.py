"""The commands `ilbook data ...`: make, check, describe, clone and convert demonstrations."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ilbook.press.cli_answer import Answer, columns, whole

COMMANDS = ("make", "check", "describe", "learn", "import", "export")


def add(commands, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `data` and its own commands; `command` adds one with a handler and a help text."""
    data = commands.add_parser("data", help="Make, check, measure or convert demonstrations.", allow_abbrev=False)
    actions = data.add_subparsers(title="commands", required=True, metavar="COMMAND")
    make = command("make", _data_make, "Make a shipped data set again.", actions)
    make.add_argument("name", help="a data set such as pusht")
    make.add_argument("--out", type=Path, help=".npz file to write (default: where the book expects it)")
    make.add_argument("--seed", type=whole, help="seed of the starts and of the expert's noise")
    make.add_argument("--n", type=whole, help="number of demonstrations")
    command("check", _data_check, "Check every shipped demonstration file against the manifest.", actions)
    learn = command("learn", _data_learn, "Clone the shipped data sets plainly; record the success.", actions)
    learn.add_argument("names", nargs="*", metavar="NAME", help="data sets such as pusht (default: all)")
    describe = command("describe", _data_describe, "Length, speed, rests and consistency of demonstrations.", actions)
    describe.add_argument("names", nargs="*", metavar="NAME", help="data sets such as pusht (default: all)")
    describe.add_argument("--human", type=Path, metavar="ZARR", help="also the human PushT data; keep their figures")
    into = command("import", _data_import, "Convert a data set of any known format to our own.", actions)
    out = command("export", _data_export, "Convert episodes to a format of the field.", actions)
    into.add_argument("source", help="LeRobotDataset v3, Diffusion Policy's zarr, robomimic or Minari HDF5")
    into.add_argument("target", type=Path, help="NAME.npz, or another name for a folder of arrays")
    out.add_argument("source", help="a file or folder of episodes, or the name of a shipped data set")
    out.add_argument("target", type=Path, help="what to write")
    out.add_argument("--format", required=True, help="lerobot, zarr or hdf5")
    out.add_argument("--video", action="store_true", help="pictures as h264: smaller, with small errors (lerobot)")
    for added in (into, out):
        added.add_argument("--force", action="store_true", help="replace the target if it exists")
        added.add_argument("--arrays", type=_listed, metavar="A,B", help="only these arrays (default: all)")
        added.add_argument("--fps", type=float, help="frames a second, where the source does not say")


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _data_make(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import demos as make

    path = make.make(arguments.name, out=arguments.out, seed=arguments.seed, n=arguments.n)
    return Answer({"written": str(path)}, f"written: {path}")


def _data_check(arguments: argparse.Namespace) -> Answer:
    from ilbook.data import manifest

    names = manifest.check()
    return Answer(names, f"{len(names)} data sets agree with the manifest")


def _data_learn(arguments: argparse.Namespace) -> Answer:
    from ilbook.press import learnability

    rows = learnability.measure(arguments.names, progress=sys.stderr)
    lines = [("data set", "success (95 % interval)", "n", "trained")]
    for row in rows:
        interval = f"{row['success']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        lines.append((row["set"], interval, str(row["n"]), f"{row['train_seconds']} s"))
    return Answer(rows, columns(lines))


def _data_describe(arguments: argparse.Namespace) -> Answer:
    from ilbook import data, tasks
    from ilbook.data import manifest
    from ilbook.data.describe import describe
    from ilbook.formats import human

    entries = manifest.entries()
    names = arguments.names or list(entries)
    rows = {}
    for name in names:
        episodes = data.load(name, pictures=False)
        rows[name] = describe(episodes, tasks.get(entries[name]["task"]).control_hz)
    if arguments.human is not None:
        rows["human pusht"] = human.write_figures(arguments.human)
    lines = [("data set", *next(iter(rows.values())))]
    lines += [(name, *(f"{value:.4g}" for value in row.values())) for name, row in rows.items()]
    return Answer(rows, columns(lines))


def _data_import(arguments: argparse.Namespace) -> Answer:
    from ilbook import formats

    progress = formats.bar("import")
    arrays, fps = arguments.arrays, arguments.fps
    return _converted(formats.import_(arguments.source, arguments.target, arguments.force, progress, arrays, fps))


def _data_export(arguments: argparse.Namespace) -> Answer:
    from ilbook import formats

    options = {"arrays": arguments.arrays, "fps": arguments.fps, "video": arguments.video}
    force, progress = arguments.force, formats.bar("export")
    return _converted(
        formats.export(arguments.source, arguments.target, arguments.format, force, progress, **options)
    )


def _converted(row: dict) -> Answer:
    arrays = ", ".join(row["arrays"])
    return Answer(row, f"written: {row['written']}, {row['episodes']} episodes, {row['steps']} steps, arrays {arrays}")
