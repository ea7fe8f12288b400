"""The book's own form: an .npz, or a folder with one .npy file for each array and a header (`ilbook.data.files`)."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ilbook.data import files
from ilbook.errors import UserError
from ilbook.formats.place import remove
from ilbook.formats.stream import Stream, from_arrays

NAME = "ilbook (.npz, or a folder with ilbook.json)"


def recognise(path: Path) -> bool:
    return path.suffix == ".npz" if path.is_file() else (path / files.HEADER).is_file()


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open an .npz (read whole) or a folder (memory-mapped)."""
    return from_arrays(*files.contents(path), path.name, arrays)


def write(stream: Stream, path: Path, as_file: bool) -> None:
    """Write a stream, bit for bit, to a folder, or by way of one to an .npz."""
    if as_file and (clash := {"episode_ends", "meta"} & set(stream.columns)):
        raise UserError(f"an array cannot be called '{clash.pop()}' in an .npz of episodes; write a folder instead")
    if not as_file:
        _write_folder(stream, path)
        return
    folder = path.with_name(f"{path.name}.parts")
    try:
        _write_folder(stream, folder)
        _pack(folder, path, stream)
    finally:
        remove(folder)


def _write_folder(stream: Stream, folder: Path) -> None:
    folder.mkdir()
    listed, opened = {}, {}
    for name, column in stream.columns.items():
        file, shape = f"{_safe(name, listed)}.npy", (stream.n_steps, *column.shape)
        listed[name] = {"file": file, "dtype": column.dtype.str, "shape": list(shape)}
        opened[name] = (folder / file).open("wb")
        descr = {"descr": column.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(opened[name], descr)
    try:
        for block in stream.blocks():
            for name, part in block.arrays.items():
                # Plain writes, not a memory map: a full disk is then an error and not a crash.
                opened[name].write(np.ascontiguousarray(part).data)
    finally:
        for file in opened.values():
            file.close()
    header = {**files.header_of(stream.meta), "episode_ends": stream.ends.tolist(), "arrays": listed}
    (folder / files.HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


def _safe(name: str, listed: dict) -> str:
    """A file stem for an array; another one if a file system that ignores case would mix it up with a listed one."""
    stem = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".") or "array"
    taken = {entry["file"].lower() for entry in listed.values()}
    number, candidate = 1, stem
    while f"{candidate}.npy".lower() in taken:
        number += 1
        candidate = f"{stem}-{number}"
    return candidate


def _pack(folder: Path, path: Path, stream: Stream) -> None:
    """The folder's arrays as a compressed .npz; members carry no date, so that equal data give equal files."""
    header = json.loads((folder / files.HEADER).read_text(encoding="utf-8"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, entry in header["arrays"].items():
            # More effort hardly shrinks floating-point numbers (3 % on PushT) and takes six times as long.
            packed.compresslevel = 1 if np.dtype(entry["dtype"]).kind == "f" else 6
            with (
                (folder / entry["file"]).open("rb") as source,
                packed.open(f"{name}.npy", "w", force_zip64=True) as target,
            ):
                shutil.copyfileobj(source, target, 2**20)
        said = np.array(json.dumps(files.header_of(stream.meta)))
        for name, array in (("episode_ends", stream.ends), ("meta", said)):
            with packed.open(f"{name}.npy", "w") as target:
                np.lib.format.write_array(target, array, allow_pickle=False)
