"""The replay buffer of Diffusion Policy (Chi et al. 2023): a zarr store, format 2, as a folder or one .zip.

Groups `data` (arrays over all steps) and `meta` (`episode_ends`). A store is JSON files beside compressed chunks, so
numcodecs for the chunks is all that it takes, and every error can name its chunk.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable, Iterable
from math import ceil, prod
from pathlib import Path

import numpy as np

from ilbook.errors import UserError
from ilbook.formats.stream import (
    Block,
    Column,
    Stream,
    check_action,
    check_ends,
    check_finite,
    check_plain,
    choose,
    spans,
)

NAME = "Diffusion Policy replay buffer (zarr, format 2)"
# As in the published buffers: fast, and about as small as it gets for positions and pictures.
COMPRESSOR = {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2, "blocksize": 0}
CHUNK_BYTES = 2**20
OURS = "ilbook"  # attribute of the root with what the format has no place for


def recognise(path: Path) -> bool:
    if path.is_file():
        return path.name.endswith(".zarr.zip")
    return any((path / name).exists() for name in (".zgroup", ".zmetadata", "zarr.json", "data/.zgroup"))


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a replay buffer; a chunk is decoded when its steps are due."""
    get = _getter(path)
    if get("zarr.json") is not None:
        raise UserError(f"{path.name}: is zarr format 3; a replay buffer has format 2 (open it with zarr_format=2)")
    ends_array = _Array(path.name, get, "meta/episode_ends")
    ends = check_ends(ends_array.rows(0, ends_array.shape[0]) if ends_array.shape else np.array(0), ends_array.where)
    try:
        ours = json.loads(get(".zattrs") or b"{}").get(OURS) or {}
    except (ValueError, AttributeError):
        raise UserError(f"{path.name}/.zattrs does not hold JSON; it may be cut short") from None
    order = {name: place for place, name in enumerate(ours.get("arrays") or [])}
    found = sorted(_names(path, get), key=lambda name: (order.get(name, len(order)), name))
    check_action(found, f"{path.name}/data")
    names = choose(found, arrays)
    opened = {name: _Array(path.name, get, f"data/{name}") for name in names}
    for array in opened.values():
        check_plain(array.dtype, array.where)
        if not array.shape or array.shape[0] != ends[-1]:
            steps = array.shape[0] if array.shape else "no"
            raise UserError(
                f"{array.where} has {steps} rows, but {ends_array.where}, row {len(ends) - 1}, says that the last "
                f"episode ends at {ends[-1]}"
            )
    columns = {name: Column(array.dtype.newbyteorder("="), array.shape[1:]) for name, array in opened.items()}

    def blocks():
        for episode, start, stop in spans(ends, columns):
            part = {}
            for name, array in opened.items():
                part[name] = array.rows(start, stop).astype(columns[name].dtype, copy=False)
                check_finite(part[name], array.where, start)
            yield Block(episode, start, part)

    return Stream(columns, ends, {**(ours.get("meta") or {}), "source": path.name, "format": "zarr"}, blocks)


def _getter(path: Path) -> Callable[[str], bytes | None]:
    """Key of the store -> its bytes, None where there is no such key."""
    if path.is_file():
        try:
            packed = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{path.name}: not a readable .zip ({error}); it may be cut short") from None
        known = set(packed.namelist())
        return lambda key: packed.read(key) if key in known else None

    def get(key: str) -> bytes | None:
        try:
            return (path / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    return get


def _names(path: Path, get: Callable[[str], bytes | None]) -> list[str]:
    """The arrays of the group `data`."""
    if path.is_file():
        with zipfile.ZipFile(path) as packed:
            found = [
                key.split("/")[1] for key in packed.namelist() if key.startswith("data/") and key.endswith("/.zarray")
            ]
    else:
        found = [entry.parent.name for entry in (path / "data").glob("*/.zarray")]
    if not found:
        raise UserError(f"{path.name}: group 'data' holds no array; this is not a replay buffer")
    return sorted(found)


class _Array:
    """One array of the store, read by rows; the chunks of the last rows are kept, as neighbours are read next."""

    def __init__(self, store: str, get: Callable[[str], bytes | None], key: str):
        import numcodecs

        self.where, self._get, self._key = f"{store}/{key}", get, key
        text = get(f"{key}/.zarray")
        if text is None:
            raise UserError(f"{self.where}/.zarray is missing; this is not a complete replay buffer")
        try:
            said = json.loads(text)
            self.dtype = np.dtype(said["dtype"])
            self.shape, self._chunks = tuple(said["shape"]), tuple(said["chunks"])
            self._order, self._separator = said.get("order", "C"), said.get("dimension_separator", ".")
            codecs = [*(said.get("filters") or []), *([said["compressor"]] if said["compressor"] else [])]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.where}/.zarray: not the description of an array ({error})") from None
        try:
            self._codecs = [(codec["id"], numcodecs.get_codec(dict(codec))) for codec in codecs]
        except Exception as error:  # each codec has its own
            raise UserError(f"{self.where}: its compression cannot be read ({error}); leave the array out") from None
        self._row, self._kept = -1, np.empty(0)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop (excluded)."""
        size = self._chunks[0]
        parts = []
        for row in range(start // size, ceil(stop / size)):
            if row != self._row:
                self._kept, self._row = self._read(row), row
            parts.append(self._kept[max(start - row * size, 0) : stop - row * size])
        if not parts:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, row: int) -> np.ndarray:
        """All chunks of one row of chunks, put together."""
        grids = [range(ceil(size / chunk)) for size, chunk in zip(self.shape[1:], self._chunks[1:], strict=True)]
        if all(len(grid) == 1 for grid in grids):
            return self._chunk((row, *(0 for _ in grids)))[:, *(slice(size) for size in self.shape[1:])]
        whole = np.empty((self._chunks[0], *self.shape[1:]), self.dtype)
        for place in itertools.product(*grids):
            box = tuple(
                slice(at * chunk, min((at + 1) * chunk, size))
                for at, chunk, size in zip(place, self._chunks[1:], self.shape[1:], strict=True)
            )
            chunk = self._chunk((row, *place))
            whole[:, *box] = chunk[:, *(slice(part.stop - part.start) for part in box)]
        return whole

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        name = self._separator.join(map(str, place))
        first = place[0] * self._chunks[0]
        where = f"{self.where}: chunk {name} (from row {first})"
        raw = self._get(f"{self._key}/{name}")
        if raw is None:
            raise UserError(
                f"{where} is missing; copy the store again, or, if its writer left out chunks of zeros, write it with "
                "write_empty_chunks=True"
            )
        size = prod(self._chunks) * self.dtype.itemsize
        for codec, decoder in reversed(self._codecs):
            # Blosc reads past the end of a shortened buffer, so its own count of bytes is compared first.
            if codec == "blosc" and (len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw)):
                raise UserError(
                    f"{where} is damaged: {len(raw)} bytes are not what it should have; it may be cut short"
                )
            try:
                raw = decoder.decode(raw)
            except Exception as error:  # each codec has its own
                raise UserError(f"{where} is damaged ({error}); it may be cut short") from None
        raw = memoryview(raw).cast("B") if not isinstance(raw, bytes) else raw
        if len(raw) != size:
            raise UserError(f"{where} is damaged: it holds {len(raw)} bytes instead of {size}; it may be cut short")
        return np.frombuffer(raw, self.dtype).reshape(self._chunks, order=self._order)


def write(stream: Stream, path: Path) -> None:
    """Write a stream as a replay buffer; fps, task texts and names go to the attributes of the root."""
    for group in ("", "data", "meta"):
        (path / group).mkdir(exist_ok=True)
        _json(path / group / ".zgroup", {"zarr_format": 2})
    _json(path / ".zattrs", {OURS: {"meta": stream.meta, "arrays": list(stream.columns)}})
    ends = _Writer(path / "meta" / "episode_ends", Column(np.dtype(np.int64), ()), len(stream.ends))
    ends.add(stream.ends)
    ends.close()
    writers = {name: _Writer(path / "data" / name, column, stream.n_steps) for name, column in stream.columns.items()}
    for block in stream.blocks():
        for name, part in block.arrays.items():
            writers[name].add(part)
    for writer in writers.values():
        writer.close()


class _Writer:
    """Writes one array, chunk by chunk; the last one is filled up with zeros, as the format wants it."""

    def __init__(self, folder: Path, column: Column, n_rows: int):
        from numcodecs import get_codec

        folder.mkdir(parents=True)
        self._folder, self._codec, self._column = folder, get_codec(dict(COMPRESSOR)), column
        self._chunk = np.zeros((min(n_rows, max(1, CHUNK_BYTES // max(column.nbytes, 1))), *column.shape), column.dtype)
        self._filled, self._written = 0, 0
        said = {
            "chunks": list(self._chunk.shape),
            "compressor": COMPRESSOR,
            "dtype": column.dtype.str,
            "fill_value": False if column.dtype.kind == "b" else 0,
            "filters": None,
            "order": "C",
            "shape": [n_rows, *column.shape],
            "zarr_format": 2,
        }
        _json(folder / ".zarray", said)
        _json(folder / ".zattrs", {})

    def add(self, rows: np.ndarray) -> None:
        while len(rows):
            taken = rows[: len(self._chunk) - self._filled]
            self._chunk[self._filled : self._filled + len(taken)] = taken
            self._filled, rows = self._filled + len(taken), rows[len(taken) :]
            if self._filled == len(self._chunk):
                self.close()

    def close(self) -> None:
        """Write what is there."""
        if not self._filled:
            return
        self._chunk[self._filled :] = 0
        name = ".".join([str(self._written), *("0" for _ in self._column.shape)])
        (self._folder / name).write_bytes(bytes(self._codec.encode(self._chunk)))
        self._filled, self._written = 0, self._written + 1


def _json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
