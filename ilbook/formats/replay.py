"""The replay buffer of Diffusion Policy (Chi et al. 2023): a zarr store, format 2, as a folder or one .zip.

Groups `data` (arrays over all steps) and `meta` (`episode_ends`). A store is JSON files beside compressed chunks, so
numcodecs for the chunks is all that it takes, and every error can name its chunk.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from math import ceil, prod
from pathlib import Path

import numpy as np

from ilbook.data.files import parse, readable, write_json
from ilbook.errors import UserError, listed
from ilbook.formats.stream import Stream, from_parts

NAME = "Diffusion Policy replay buffer (zarr, format 2)"
# As in the published buffers: fast, and about as small as it gets for positions and pictures.
COMPRESSOR = {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2, "blocksize": 0}
CHUNK_BYTES = 2**20
ENDS = "meta/episode_ends"
OURS = "ilbook"  # attribute of the root with what the format has no place for


def recognise(path: Path) -> bool:
    if path.is_file() and not zipfile.is_zipfile(path):
        return path.name.endswith(".zarr.zip")  # a damaged one
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith((".zarray", "zarr.json")) for name in archive.namelist())
    return any((path / name).exists() for name in (".zgroup", ".zmetadata", "zarr.json", "data/.zgroup"))


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a replay buffer; a chunk is decoded when its steps are due."""
    root, keys = _root(path)
    if _read(root, "zarr.json") is not None:
        raise UserError(
            f"{path.name}: is zarr format 3; a replay buffer has format 2; write it anew with zarr_format=2"
        )
    ours = parse(_read(root, ".zattrs") or b"{}", f"{path.name}/.zattrs").get(OURS) or {}
    order = {f"data/{name}": place for place, name in enumerate(ours.get("arrays") or [])}
    inside = sorted((key for key in keys if key.startswith("data/")), key=lambda key: (order.get(key, len(order)), key))
    found = {key[5:] if key in order else key[5:].replace("/", "."): key for key in inside}
    ends = _Array(root, path.name, ENDS)
    meta = {**(ours.get("meta") or {}), "source": path.name, "format": "zarr"}

    def parts(name: str) -> list:
        array = _Array(root, path.name, found[name])
        return [(array.where, array)]

    outside = [key for key in keys if key not in inside and key != ENDS]
    aside = dict.fromkeys(outside, "it lies outside the group 'data'")
    return from_parts(found, parts, ends[0 : ends.shape[0]], meta, path.name, arrays, aside=aside)


def _root(path: Path) -> tuple[Path | zipfile.Path, list[str]]:
    """Where the store begins, in a .zip perhaps in a folder, and the keys of its arrays."""
    if path.is_dir():
        return path, [found.parent.relative_to(path).as_posix() for found in path.rglob(".zarray")]
    with readable(path.name, ".zip", zipfile.BadZipFile):
        archive = zipfile.ZipFile(path)
    keys = [name.removesuffix("/.zarray") for name in archive.namelist() if name.endswith("/.zarray")]
    newer = [name.removesuffix("zarr.json") for name in archive.namelist() if name.endswith("zarr.json")]
    tops = [key.removesuffix(ENDS) for key in keys if key.endswith(ENDS)] or sorted(newer, key=len)[:1] or [""]
    if len(tops) > 1:
        raise UserError(f"{path.name} holds {len(tops)} stores, {listed(tops)}; unpack it and import one of them")
    return zipfile.Path(archive, tops[0]), [key.removeprefix(tops[0]) for key in keys]


def _read(root: Path | zipfile.Path, key: str) -> bytes | None:
    """What a key of the store holds, None where there is no such key."""
    try:
        return root.joinpath(key).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


class _Array:
    """One array of the store, read by rows; the chunks of the last rows are kept, as neighbours are read next."""

    def __init__(self, root: Path | zipfile.Path, store: str, key: str):
        import numcodecs

        self.where, self._root, self._key = f"{store}/{key}", root, key
        if (text := _read(root, f"{key}/.zarray")) is None:
            raise UserError(f"{self.where}/.zarray is missing; this is not a complete replay buffer")
        try:
            said = json.loads(text)
            self.dtype, self._order, self._fill = np.dtype(said["dtype"]), said.get("order", "C"), said["fill_value"]
            self.shape, self._chunks = tuple(said["shape"]), tuple(said["chunks"])
            if not self.shape or len(self.shape) != len(self._chunks):
                raise ValueError(f"shape {self.shape} in chunks {self._chunks}")
            self._separator = said.get("dimension_separator", ".")
            codecs = [*(said.get("filters") or []), *([said["compressor"]] if said["compressor"] else [])]
            self._codecs = [(codec["id"], numcodecs.get_codec(dict(codec))) for codec in codecs]
        except Exception as error:  # each codec has its own
            reason = f"not the description of an array that can be read ({error})"
            raise UserError(f"{self.where}/.zarray: {reason}") from None
        self._row, self._kept = -1, np.empty(0)

    def __getitem__(self, rows: slice) -> np.ndarray:
        size, parts = self._chunks[0], [np.empty((0, *self.shape[1:]), self.dtype)]
        for row in range(rows.start // size, ceil(rows.stop / size)):
            if row != self._row:
                self._kept, self._row = self._chunks_of(row), row
            parts.append(self._kept[max(rows.start - row * size, 0) : rows.stop - row * size])
        return np.concatenate(parts)

    def _chunks_of(self, row: int) -> np.ndarray:
        """All chunks of one row of chunks, put together."""
        whole = np.empty((self._chunks[0], *self.shape[1:]), self.dtype)
        inner = list(zip(self.shape[1:], self._chunks[1:], strict=True))
        for place in np.ndindex(*(ceil(size / chunk) for size, chunk in inner)):
            box = (slice(at * chunk, (at + 1) * chunk) for at, (_, chunk) in zip(place, inner, strict=True))
            part = whole[:, *box]
            part[:] = self._chunk((row, *place))[tuple(slice(size) for size in part.shape)]
        return whole

    def _any_chunk(self) -> bool:
        return any(not entry.name.startswith(".z") for entry in self._root.joinpath(self._key).iterdir())

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        name = self._separator.join(map(str, place))
        where = f"{self.where}: chunk {name} (from row {place[0] * self._chunks[0]})"
        if (raw := _read(self._root, f"{self._key}/{name}")) is None:
            # Writers leave out chunks of nothing but the fill value; but then some actions, and the ends, are there.
            if self._fill is None or self._key == ENDS or (self._key == "data/action" and not self._any_chunk()):
                remedy = "copy the store again, or, if its writer left out zeros, write it with write_empty_chunks=True"
                raise UserError(f"{where} is missing; {remedy}")
            return np.full(self._chunks, self._fill, self.dtype)
        try:
            for codec, decoder in reversed(self._codecs):
                # Blosc reads past the end of a shortened buffer, so its own count of bytes is compared first.
                if codec == "blosc" and (len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw)):
                    raise ValueError(f"{len(raw)} bytes are not what it should have")
                raw = decoder.decode(raw)
            raw = memoryview(raw).cast("B")
            if len(raw) != (size := prod(self._chunks) * self.dtype.itemsize):
                raise ValueError(f"it holds {len(raw)} bytes instead of {size}")
        except Exception as error:  # each codec has its own
            raise UserError(f"{where} is damaged ({error}); it may be cut short") from None
        return np.frombuffer(raw, self.dtype).reshape(self._chunks, order=self._order)


def write(stream: Stream, path: Path) -> None:
    """Write a stream as a replay buffer; fps, task texts and names go to the attributes of the root."""
    for group in ("", "data", "meta"):
        (path / group).mkdir()
        write_json(path / group / ".zgroup", {"zarr_format": 2})
    write_json(path / ".zattrs", {OURS: {"meta": stream.meta, "arrays": list(stream.columns)}})
    _describe(path / "meta" / "episode_ends", stream.ends, len(stream.ends), len(stream.ends))
    _write_chunk(path / "meta" / "episode_ends", 0, stream.ends, len(stream.ends))
    # As in the published buffers, all arrays have the same rows in a chunk.
    widest = max(column.nbytes for column in stream.columns.values())
    size, number = min(stream.n_steps, max(1, CHUNK_BYTES // max(widest, 1))), 0
    waiting = {name: np.empty((0, *column.shape), column.dtype) for name, column in stream.columns.items()}
    for name, rows in waiting.items():
        _describe(path / "data" / name, rows, size, stream.n_steps)
    for block in stream.watched("export"):
        waiting = {name: np.concatenate([rows, block.arrays[name]]) for name, rows in waiting.items()}
        ended = block.start + len(block.arrays["action"]) == stream.n_steps  # the last one need not be full
        while (n := len(waiting["action"])) >= size or (ended and n):
            for name, rows in waiting.items():
                _write_chunk(path / "data" / name, number, rows[:size], size)
            waiting, number = {name: rows[size:] for name, rows in waiting.items()}, number + 1


def _describe(folder: Path, rows: np.ndarray, size: int, n: int) -> None:
    """Begin an array of `n` rows like these, `size` in a chunk."""
    folder.mkdir(parents=True)
    said = {
        "chunks": [size, *rows.shape[1:]], "compressor": COMPRESSOR, "dtype": rows.dtype.str,
        "fill_value": False if rows.dtype.kind == "b" else 0, "filters": None, "order": "C",
        "shape": [n, *rows.shape[1:]], "zarr_format": 2,
    }  # fmt: skip
    write_json(folder / ".zarray", said)


def _write_chunk(folder: Path, number: int, rows: np.ndarray, size: int) -> None:
    """Write rows as a chunk, filled up with zeros to `size` of them, as the format wants it."""
    from numcodecs import get_codec

    rest = np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)
    name = ".".join([str(number), *("0" for _ in rows.shape[1:])])
    (folder / name).write_bytes(bytes(get_codec(dict(COMPRESSOR)).encode(np.concatenate([rows, rest]))))
