"""Training rows: one or several kinds of a data set, pinned, as the trainer wants them."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets, get_dataset_config_names, load_dataset
from msgspec import Struct

from foils.errors import UserError
from foils.hub import explained, load_parquet, parquet_builder, patiently, pin
from foils.kinds import NO_NEGATIVES, Draw, parse
from foils.provenance import sha256_file
from training.kinds import drawn

logger = logging.getLogger(__name__)

READ_ROWS = 10_000
NEGATIVE_NAME = re.compile(r"negative(?:_(\d+))?")
LABEL_NAMES = ("label", "labels", "score", "scores")
NOT_FOR_TRAINING = ("default", "corpus", "queries", "generated", "fates", "drops", "leakage")


class Source(Struct, frozen=True):
    """A data set pinned to its content.

    Attributes:
        name: the Hub id, or what a folder's manifest calls it.
        revision: the Hub commit, or `sha256:...` of a folder's manifest or rows.
        tag: the revision that was asked for on the Hub; None for a folder.
        location: the folder or the Hub id.
        kinds: its configurations for training.
    """

    name: str
    revision: str
    tag: str | None
    location: str
    kinds: tuple[str, ...]


def resolve(dataset: str, revision: str | None) -> Source:
    """Pins a data set.

    Raises:
        UserError: there is no such folder or Hub data set, a Hub id came without a revision, or its tag has moved.
    """
    folder = Path(dataset)
    if folder.is_dir():
        return Source(_folder_name(folder), _folder_hash(folder), None, str(folder), _kinds_of_folder(folder))
    if not is_hub_id(dataset):
        raise UserError(f"dataset {dataset}: no such folder; wanted a data set's folder or a Hub id (owner/name)")
    if revision is None:
        raise UserError(f"dataset {dataset}: a Hub data set needs its revision, such as --set revision=v1.0.0")
    commit = pin(dataset, revision, "dataset")
    with explained(f"dataset {dataset}@{revision}"):
        configs = patiently(lambda: get_dataset_config_names(dataset, revision=commit))
    return Source(dataset, commit, revision, dataset, _training_kinds(configs))


def is_hub_id(dataset: str) -> bool:
    """Whether a name has the form `owner/name`."""
    return dataset.count("/") == 1 and not dataset.startswith((".", "/"))


def load_rows(source: Source, kind: str, seed: int = 1) -> Dataset:
    """The rows of a kind: `query`, `positive` and its negatives, in the trainer's order.

    Args:
        source: the data set.
        kind: see `foils.kinds`; `none` for no negatives.
        seed: of the draw, where kinds have shares.

    Raises:
        UserError: the data set has no such kind, or kinds do not share their queries.
    """
    draws = draws_of(source, kind)
    tables = {name: _load(source, name) for draw in draws for name in draw.parts}
    first, *others = tables.values()
    if kind == NO_NEGATIVES:
        return first.select_columns(["query", "positive"])
    if any(not table.data.column("query").equals(first.data.column("query")) for table in others):
        raise UserError(apart(kind))
    choices = [_side_by_side([tables[name] for name in draw.parts]) for draw in draws]
    if len(choices) == 1:
        return choices[0]
    if len({tuple(choice.column_names) for choice in choices}) > 1:
        raise UserError(unequal(kind, [len(choice.column_names) - 2 for choice in choices]))
    rows = len(first)
    places = [drawn(query, draws, seed) * rows + row for row, query in enumerate(first["query"])]
    return concatenate_datasets(choices).select(places)


def draws_of(source: Source, kind: str) -> tuple[Draw, ...]:
    """What a row of the kind may be given; of `none`, a configuration to read queries and positives from.

    Raises:
        UserError: the data set has no such kind.
    """
    if kind == NO_NEGATIVES and source.kinds:
        return (Draw(1.0, source.kinds[:1]),)
    return parse(kind, source.kinds, source.name)


def files_of(source: Source, kind: str) -> tuple[str, ...]:
    """The Parquet files of a configuration: paths, or `hf://` addresses at the commit.

    Raises:
        UserError: they cannot be listed.
    """
    if source.tag is not None:
        return tuple(parquet_builder(source.location, kind, source.revision).config.data_files["train"])
    return tuple(sorted(map(str, (Path(source.location) / kind).glob("*.parquet"))))


def check_texts(rows: Dataset, name: str) -> None:
    """Refuses empty data, and a text that is missing or blank."""
    if len(rows) == 0:
        raise UserError(f"dataset {name}: holds no row")
    for start, table in enumerate(rows.with_format("arrow").iter(READ_ROWS)):
        for column in table.column_names:
            kind = table[column].type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(not_text(name, column, str(kind)))
            texts = pc.utf8_trim_whitespace(table[column])
            place = pc.index(pc.fill_null(pc.equal(pc.utf8_length(texts), 0), True), pa.scalar(True)).as_py()
            if place >= 0:
                raise UserError(empty_text(name, f"row {start * READ_ROWS + place + 1}", column))


def not_text(name: str, column: str, found: str) -> str:
    """What to say of a column that holds something else."""
    return f"dataset {name}: column {column!r} holds {found} and not text; name another column, or convert it"


def empty_text(name: str, where: str, column: str) -> str:
    """What to say of a row without a text."""
    return f"dataset {name}: {where}: {column} is empty; leave such rows out of the data, nothing is learnt from them"


def apart(kind: str) -> str:
    """What to say of kinds that are no rows of one build."""
    return f"kind {kind!r}: its parts do not share their queries row by row; build them together"


def unequal(kind: str, counts: Sequence[int]) -> str:
    """What to say of kinds that a row cannot be drawn from."""
    return (
        f"kind {kind!r}: its parts have {', '.join(map(str, counts))} negatives a row, and a row gets those of one; "
        "name parts that have as many"
    )


def _side_by_side(tables: list[Dataset]) -> Dataset:
    """Queries and positives with the negatives of all tables, numbered through."""
    rows = tables[0].select_columns(["query", "positive"])
    negatives = [(table, column) for table in tables for column in table.column_names[2:]]
    columns = []
    for number, (table, column) in enumerate(negatives, start=1):
        new, alone = f"negative_{number}", table.select_columns([column])
        columns.append(alone if new == column else alone.rename_column(column, new))
    joined: Dataset = concatenate_datasets([rows, *columns], axis=1)
    return joined


def _load(source: Source, kind: str) -> Dataset:
    rows = load_config(source, kind)
    return rows.select_columns(columns_of_kind(rows.column_names, f"{source.name}, kind {kind}"))


def load_config(source: Source, config: str, split: str = "train") -> Dataset:
    """The rows of one configuration, which must be there.

    Args:
        source: the data set.
        config: such as a kind, `corpus` or `scores-cross-encoder`.
        split: the one that it has: `corpus` and `queries` have splits of their names.
    """
    rows: Dataset
    if source.tag is not None:
        rows = load_parquet(source.location, config, split, source.revision)
    else:  # plain files need no card, so folders with only training rows work too
        rows = load_dataset("parquet", data_files=list(files_of(source, config)), split="train")
    return rows


def columns_of_kind(present: Sequence[str], name: str) -> list[str]:
    """`query`, `positive` and the negatives of a kind's rows, in the trainer's order; reports what is left out.

    Raises:
        UserError: the rows lack what every kind has, or may hold wrong positives.
    """
    missing = [column for column in ("query", "positive") if column not in present]
    if missing:
        raise UserError(f"dataset {name}: has no column {', '.join(missing)!r}; its columns are {', '.join(present)}")
    labels = [column for column in present if column.lower() in LABEL_NAMES]
    if labels:
        raise UserError(
            f"dataset {name}: {not_all_right(labels[0], 'positive')}; keep the rows whose positive is right, without "
            "the column"
        )
    used = ["query", "positive", *negatives_among(present)]
    report_left_out(present, used, name)
    return used


def negatives_among(present: Sequence[str]) -> list[str]:
    """The columns that hold negatives, by their numbers.

    >>> negatives_among(["negative_10", "negative_2", "negative", "negative_2_id"])
    ['negative', 'negative_2', 'negative_10']
    """
    found = [column for column in present if NEGATIVE_NAME.fullmatch(column)]
    return sorted(found, key=lambda column: int(column.partition("_")[2] or 0))


def not_all_right(label: str, positive: str) -> str:
    """What to say of rows with labels: those with label 0 would be trained as if they were right."""
    return f"column {label!r} may say that not every row's {positive} is a right one"


def report_left_out(present: Sequence[str], used: Sequence[str], name: str) -> None:
    """Says which columns are not trained on."""
    left_out = [column for column in present if column not in used]
    if left_out:
        logger.info("%s: columns %s are not trained on", name, ", ".join(left_out))


def _kinds_of_folder(folder: Path) -> tuple[str, ...]:
    return _training_kinds(sorted(path.parent.name for path in folder.glob("*/train-*.parquet")))


def _training_kinds(configs: list[str]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            name for name in configs if name not in NOT_FOR_TRAINING and not name.startswith(("candidates-", "scores-"))
        )
    )


def _folder_name(folder: Path) -> str:
    manifest = folder / "manifest.json"
    return str(json.loads(manifest.read_text("utf-8"))["name"]) if manifest.exists() else folder.resolve().name


def _folder_hash(folder: Path) -> str:
    manifest = folder / "manifest.json"
    if manifest.exists():
        return f"sha256:{sha256_file(manifest)}"
    files = sorted(folder.glob("*/train-*.parquet"))
    if not files:
        raise UserError(f"dataset {folder}: no data set in it (no manifest.json, no */train-*.parquet)")
    return "sha256:" + "-".join(sha256_file(file)[:16] for file in files)
