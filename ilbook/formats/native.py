"""The book's own form: an .npz, or a folder with one .npy file for each array and a header (`ilbook.data.files`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ilbook.data import files
from ilbook.errors import UserError
from ilbook.formats.place import remove
from ilbook.formats.stream import Stream, from_arrays

NAME = "ilbook (.npz, or a folder with ilbook.json)"
TAKEN = {"episode_ends", "meta", "file", "allow_pickle"}  # names that an .npz of episodes, or numpy, has for itself


def recognise(path: Path) -> bool:
    return path.suffix == ".npz" if path.is_file() else (path / files.HEADER).is_file()


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open an .npz (read whole) or a folder (memory-mapped)."""
    only = None if arrays is None else set(arrays)
    return from_arrays(*files.contents(path, only, objects=True), path.name, arrays)


def write(stream: Stream, path: Path, as_file: bool) -> None:
    """Write a stream, bit for bit, to a folder, or by way of one to an .npz."""
    if not as_file:
        _write_folder(stream, path)
        return
    if clash := TAKEN & set(stream.columns):
        raise UserError(f"an array cannot be called '{clash.pop()}' in an .npz of episodes; write a folder instead")
    folder = path.with_name(f"{path.name}.parts")
    try:
        _write_folder(stream, folder)
        mapped, ends, meta = files.contents(folder)
        with path.open("wb") as file:
            np.savez_compressed(file, **mapped, episode_ends=ends, meta=np.array(json.dumps(meta)))
    finally:
        remove(folder)


def _write_folder(stream: Stream, folder: Path) -> None:
    folder.mkdir()
    listed, opened = {}, {}
    with ExitStack() as stack:
        for name, column in stream.columns.items():
            file, shape = _file_of(name, listed), (stream.n_steps, *column.shape)
            listed[name] = {"file": file, "dtype": column.dtype.str, "shape": list(shape)}
            opened[name] = stack.enter_context((folder / file).open("wb"))
            descr = {"descr": column.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(opened[name], descr)
        for block in stream.watched("import"):
            for name, part in block.arrays.items():
                # Plain writes, not a memory map: a full disk is then an error and not a crash.
                opened[name].write(np.ascontiguousarray(part).data)
    said = {"schema": files.SCHEMA, "meta": stream.meta, "episode_ends": stream.ends.tolist(), "arrays": listed}
    files.write_json(folder / files.HEADER, said)


def _file_of(name: str, listed: dict) -> str:
    """The file of an array: its name if every file system takes it, even one that ignores case; else a number."""
    taken = {entry["file"].lower() for entry in listed.values()}
    fits = re.fullmatch(r"[\w-][\w.-]*", name, flags=re.ASCII) and f"{name}.npy".lower() not in taken
    return f"{name}.npy" if fits else f"array-{len(listed)}.npy"
