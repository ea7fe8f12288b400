"""The recorded behaviour of every part of the package: how a trace is made, compared with the record, recorded anew.

A trace is a function in tests/golden/traces/<room>.py, registered with `@trace("nets.mlp", tolerance=1e-6)`. It runs
its part on something small and returns what came out: {name: number, text or array}. It is quick (a second, a training
three), has no chance but from seeds, and runs nine tenths of its part's lines. A perturbed task is a part of its own,
"tasks.pusht:lag". The version of a part is the hash of its recorded trace, and results name the versions of all parts
that ran: so a trace should show all that a result could depend on, and nothing that it could not (no names, no times).
"""

import importlib
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ilbook import used
from ilbook.errors import UserError, unknown
from ilbook.page import versions
from ilbook.paths import write_file

DIGITS = 9  # significant ones that are recorded: the last bits differ from processor to processor


@dataclass(frozen=True)
class Trace:
    """How the behaviour of a part is seen, and how far it may differ between two machines."""

    part: str
    tolerance: float  # relative and absolute: 1e-9 for formulas, 1e-6 for physics, 1e-4 for what was trained
    function: Callable[[], dict]


_traces: dict[str, Trace] = {}


def trace(part: str, tolerance: float = 1e-9) -> Callable:
    """Register the decorated function as the trace of `part`."""

    def register(function: Callable[[], dict]) -> Callable[[], dict]:
        if part in _traces:
            raise UserError(f"{part} has two traces, {_traces[part].function.__name__} and {function.__name__}")
        _traces[part] = Trace(part, tolerance, function)
        return function

    return register


def traces() -> dict[str, Trace]:
    """All traces, by part; this imports the files in tests/golden/traces."""
    for file in sorted((Path(__file__).parent / "traces").glob("*.py")):
        importlib.import_module(f"tests.golden.traces.{file.stem}")
    return dict(sorted(_traces.items()))


def chosen(names: Iterable[str]) -> list[str]:
    """The parts of these names: a part with its perturbations, or a room with all its parts; without names all."""
    every, found = traces(), []
    for name in names:
        mine = [part for part in every if part == name or part.startswith((f"{name}.", f"{name}:"))]
        if not mine:
            raise unknown("part", name, every)
        found += mine
    return list(dict.fromkeys(found)) or list(every)


def run(part: str) -> tuple[dict, set[str]]:
    """What a part does now, as it would be recorded: {"part", "tolerance", "trace"}; and the parts that took part."""
    mine = traces()[part]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other numbers
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # a net under a trace that forgot a seed
    try:
        with used.collected() as announced:
            values = {name: _plain(part, name, value) for name, value in mine.function().items()}
    finally:
        torch.set_num_threads(threads)
    return {"part": part, "tolerance": mine.tolerance, "trace": values}, announced


def make(part: str) -> dict:
    """What a part does now, as it would be recorded."""
    return run(part)[0]


def compare(part: str) -> list[str]:
    """What moved since the trace of a part was recorded, entry by entry in words. UserError without a good record."""
    return moved(versions.read_golden(part), make(part))


def moved(old: dict, new: dict) -> list[str]:
    """Which entries differ by more than the tolerance, from where to where, and how far."""
    before, after = old["trace"], new["trace"]
    words = [f"{name}: gone" for name in before.keys() - after.keys()]
    words += [f"{name}: new" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        a, b = np.asarray(before[name]), np.asarray(after[name])
        if a.shape != b.shape:
            words.append(f"{name}: shape {a.shape} -> {b.shape}")
        elif "U" in a.dtype.kind + b.dtype.kind:
            words += [f"{name}: {before[name]} -> {after[name]}"] if before[name] != after[name] else []
        else:
            words += _farthest(name, a.astype(float), b.astype(float), new["tolerance"])
    return sorted(words)


def _farthest(name: str, a: np.ndarray, b: np.ndarray, tolerance: float) -> list[str]:
    apart = ~np.isclose(b, a, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not apart.any():
        return []
    far = np.where(apart, np.nan_to_num(np.abs(b - a), nan=np.inf), -1.0)
    index = np.unravel_index(far.argmax(), far.shape)
    place = f"[{', '.join(map(str, index))}]" if index else ""
    count = f", {apart.sum()} of {apart.size} numbers moved" if apart.size > 1 else ""
    return [f"{name}{place}: {a[index]:.9g} -> {b[index]:.9g}, {far[index]:.3g} apart (allowed {tolerance:g}){count}"]


def record(part: str) -> list[str]:
    """Record a part anew if it moved, or has no good record; returns what moved, as `compare` does.

    What did not move is left alone: digits below the tolerance must not make results stale.
    """
    new = make(part)
    try:
        words = moved(versions.read_golden(part), new)
    except UserError as error:
        words = [str(error)] if versions.golden_file(part).exists() else ["recorded for the first time"]
    if words:
        write_file(versions.golden_file(part), _text(new))
    return words


def _text(golden: dict) -> str:
    """The file of a part, with a line for each entry, so that a difference in git can be read."""
    head = f'{{"part": {json.dumps(golden["part"])}, "tolerance": {golden["tolerance"]}, "trace": {{\n'
    trace, short = golden["trace"], (",", ":")
    entries = [f" {json.dumps(name)}: {json.dumps(trace[name], separators=short)}" for name in sorted(trace)]
    return head + ",\n".join(entries) + "\n}}\n"


def _plain(part: str, name: str, value: object) -> object:
    """A JSON value, with floating-point numbers rounded to `DIGITS` significant digits."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "biuU":
        return array.tolist()
    if array.dtype.kind != "f":
        raise UserError(f"the trace of {part} has {name} of type {array.dtype}; give numbers, texts or arrays of them")
    rounded = np.array([float(f"{number:.{DIGITS}g}") + 0.0 for number in array.flat])  # + 0.0: there is no -0
    return rounded.reshape(array.shape).tolist()
