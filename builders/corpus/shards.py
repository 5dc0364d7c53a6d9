"""Examines a large corpus by shards: pieces of its files, which every worker reads where they lie.

The plan's rows name the pieces. A shard's part holds its rows as `cleaning.EXAMINED`. Its metadata holds the
columns that were seen, or the error that a row gave.
"""

import mmap
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from builders.corpus.cleaning import EXAMINED, examined, without_repeats
from builders.corpus.sources import WHAT, CorpusConfig, as_texts, columns_of
from foils.engine.config import EngineConfig
from foils.engine.folder import finished
from foils.engine.parts import checked_part, part_file
from foils.engine.plan import Places, Plan, check_file, make_plan
from foils.errors import UserError
from foils.provenance import sha256_file, sha256_json
from foils.tables import COMPRESSED, Piece, Rows, explained, form_of, may_be_cut, read

SIZE = 256_000_000
"""Bytes of a shard."""
MOST = 8 * SIZE
"""A larger piece that cannot be cut is read as a stream: a shard is in memory as a whole."""
_UNPACKED = 10  # times the size of a packed file, as text in memory
_PIECES = "pieces.parquet"
_PIECE = pa.schema(
    [*((name, pa.string()) for name in ("file", "sha256")), *((name, pa.int64()) for name in ("start", "end", "first"))]
)
_BLOCK = 1 << 20
_NAMES, _ERROR = b"names", b"error"


class Examine:
    """Reads the pieces of a shard and examines their rows."""

    Config = CorpusConfig

    def __init__(self, config: CorpusConfig, _: Places) -> None:
        self._config = config
        self._checked = set[str]()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Returns the rows; none where one cannot be read, and the error, as it would be made again and again."""
        names, notes, batches = dict[str, None](), {_ERROR: b""}, list[pa.RecordBatch]()

        def noted(rows: Iterator[Rows]) -> Iterator[Rows]:
            for each in rows:
                names.update(dict.fromkeys(each.names))
                yield each

        rows_of = table.to_pylist()
        for path, digest in {row["file"]: row.pop("sha256") for row in rows_of}.items():
            if path not in self._checked:
                check_file(Path(path), digest)  # another machine may have another file in this place
                self._checked.add(path)
        pieces = [Piece(Path(row.pop("file")), **row) for row in rows_of]
        try:
            rows = noted(read(pieces, columns_of(self._config), WHAT))
            batches = [examined(each, self._config) for each in as_texts(rows, self._config, whole=False)]
        except UserError as error:
            notes[_ERROR] = str(error).encode()
        notes[_NAMES] = msgspec.json.encode([*names])
        return pa.Table.from_batches(batches, EXAMINED).replace_schema_metadata(notes)


def shards_of(files: Sequence[Path]) -> list[list[tuple[Piece, int]]]:
    """Returns the pieces of each shard and their sizes in bytes; no shard where a file is too large and cannot be cut.

    Raises:
        UserError: a file cannot be read.
    """
    shards, room = list[list[tuple[Piece, int]]](), 0
    for file in files:
        with explained(f"{WHAT} {file}"):
            for piece, size in _pieces(file):
                if size > MOST:
                    return []
                if size > room:
                    shards.append([])
                    room = SIZE
                shards[-1].append((piece, size))
                room -= size
    return shards


def _pieces(file: Path) -> Iterator[tuple[Piece, int]]:
    """Yields JSON lines cut at line feeds, row groups of Parquet, and other files as they are."""
    form, size, first = form_of(file), file.stat().st_size, 1
    unpacked = size * _UNPACKED if form == "parquet" or file.suffix.lower() in COMPRESSED else size
    if form == "parquet" and unpacked > SIZE:
        meta = pq.read_metadata(file)
        for number in range(meta.num_row_groups):
            group = meta.row_group(number)
            yield Piece(file, number, number + 1, first), group.total_byte_size
            first += group.num_rows
    elif size <= SIZE or not may_be_cut(file):
        yield Piece(file), unpacked
    else:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = 0
            while start < size:
                end = content.find(b"\n", min(start + SIZE, size)) + 1 or size
                yield Piece(file, start, end, first), end - start
                blocks = (content[at : min(at + _BLOCK, end)] for at in range(start, end, _BLOCK))
                start, first = end, first + sum(block.count(b"\n") for block in blocks)


def clean_by_shards(
    shards: Sequence[Sequence[tuple[Piece, int]]], config: CorpusConfig, engine: EngineConfig, cache: Path
) -> tuple[pa.Table, pa.Table, str]:
    """Cleans a corpus as `cleaning.clean`, with the rows examined by an engine.

    Raises:
        UserError: as `load` and `foils.engine.folder.finished`.
    """
    files = {str(piece.file.absolute()): piece.file for shard in shards for piece, _ in shard}
    with explained(f"{WHAT} {config.source}"):
        hashes = {path: sha256_file(file) for path, file in files.items()}
    about = [msgspec.to_builtins(config), *files]  # a relative name may mean another corpus elsewhere
    source = cache / "engine" / f"corpus-{sha256_json(about)[:16]}"
    folder = source.with_name(f"{source.name}-{sha256_json([hashes, SIZE])[:16]}")
    for outdated in source.parent.glob(f"{source.name}-*/"):
        if outdated.name != folder.name:  # parts of what these files were before
            shutil.rmtree(outdated, ignore_errors=True)
    with finished(folder, partial(_plan, folder, shards, config, hashes), engine, "cleaning") as plan:
        _check(folder, plan, config)

        def parts(names: Sequence[str]) -> Iterator[pa.Table]:
            for number in range(len(plan.shards)):
                yield pq.read_table(part_file(folder, number), columns=names)

        return without_repeats(parts, config)


def _plan(
    folder: Path, shards: Sequence[Sequence[tuple[Piece, int]]], config: CorpusConfig, hashes: Mapping[str, str]
) -> Plan:
    pieces = [(str(piece.file.absolute()), piece) for shard in shards for piece, _ in shard]
    rows = [{**piece._asdict(), "file": path, "sha256": hashes[path]} for path, piece in pieces]
    pq.write_table(pa.Table.from_pylist(rows, _PIECE), folder / _PIECES)
    ends = [*accumulate(map(len, shards), initial=0)]
    return make_plan(folder, f"{__name__}:Examine", config, [_PIECES], [*pairwise(ends)])


def _check(folder: Path, plan: Plan, config: CorpusConfig) -> None:
    """Raises what a reader of the whole source would: the error of its first bad row, or a missing column."""
    places = [checked_part(folder, plan, number) for number in range(len(plan.shards))]
    notes = [pq.read_schema(place).metadata for place in places]
    errors = [each[_ERROR].decode() for each in notes if each[_ERROR]]
    for place, each in zip(places, notes, strict=True):
        if each[_ERROR]:
            place.with_suffix(".json").unlink()  # a worker that sees other files may succeed
    if errors:
        raise UserError(errors[0])
    names = dict.fromkeys(name for each in notes for name in msgspec.json.decode(each[_NAMES], type=list[str]))
    seen = Rows([*names], [[] for _ in columns_of(config)], (), "")
    list(as_texts([seen], config))
