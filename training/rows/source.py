"""Training rows: one or several kinds of a data set, pinned, as the trainer wants them."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets, get_dataset_config_names, load_dataset
from msgspec import Struct

from foils.errors import UserError
from foils.hub import explained, load_parquet, parquet_builder, patiently, pin
from foils.kinds import NO_NEGATIVES, Draw, parse
from foils.provenance import sha256_file
from training.recipe import Columns
from training.rows.kinds import drawn

logger = logging.getLogger(__name__)

READ_ROWS = 10_000
NEGATIVE_NAME = re.compile(r"negative(?:_(\d+))?")
# Names in the training sets that sentence-transformers publishes.
QUERY_NAMES = ("query", "anchor", "question")
POSITIVE_NAMES = ("positive", "answer", "passage")
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

    def configs(self) -> list[str]:
        """The names of all configurations.

        Raises:
            UserError: the Hub cannot be reached.
        """
        if self.tag is None:
            return sorted({file.parent.name for file in Path(self.location).glob("*/*.parquet")})
        with explained(f"dataset {self.name}@{self.tag}"):
            names: list[str] = patiently(lambda: get_dataset_config_names(self.location, revision=self.revision))
        return names


def resolve(dataset: str, revision: str | None) -> Source:
    """Pins a data set.

    Raises:
        UserError: there is no such folder or Hub data set, a Hub id came without a revision, or its tag has moved.
    """
    folder = Path(dataset)
    if folder.is_dir():
        kinds = _training_kinds(sorted(path.parent.name for path in folder.glob("*/train-*.parquet")))
        return Source(_folder_name(folder), _folder_hash(folder), None, str(folder), kinds)
    if not is_hub_id(dataset):
        raise UserError(f"dataset {dataset}: no such folder; wanted a data set's folder or a Hub id (owner/name)")
    if revision is None:
        raise UserError(f"dataset {dataset}: a Hub data set needs its revision, such as --set revision=v1.0.0")
    pinned = Source(dataset, pin(dataset, revision, "dataset"), revision, dataset, ())
    return Source(dataset, pinned.revision, revision, dataset, _training_kinds(pinned.configs()))


def is_hub_id(dataset: str) -> bool:
    """Whether a name has the form `owner/name`."""
    return dataset.count("/") == 1 and not dataset.startswith((".", "/"))


def load_rows(source: Source, kind: str, seed: int = 1) -> Dataset:
    """Loads the rows of a kind: `query`, `positive` and its negatives, in the trainer's order.

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
        raise UserError(f"kind {kind!r}: {NOT_ALIGNED}")
    choices = [_side_by_side([tables[name] for name in draw.parts]) for draw in draws]
    check_counts(kind, [len(choice.column_names) - 2 for choice in choices])
    if len(choices) == 1:
        return choices[0]
    rows = len(first)
    places = [drawn(query, draws, seed) * rows + row for row, query in enumerate(first["query"])]
    return concatenate_datasets(choices).select(places)


def draws_of(source: Source, kind: str) -> tuple[Draw, ...]:
    """The draws of a kind; for `none`, a configuration to read queries and positives from.

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


def load_config(source: Source, config: str, split: str = "train") -> Dataset:
    """Loads the rows of one configuration, which must be there.

    Args:
        source: the data set.
        config: such as a kind, `corpus` or `scores-cross-encoder`.
        split: `corpus` and `queries` have splits of their names.
    """
    rows: Dataset
    if source.tag is not None:
        rows = load_parquet(source.location, config, split, source.revision)
    else:  # plain files need no card, so folders with training rows alone work too
        rows = load_dataset("parquet", data_files=list(files_of(source, config)), split="train")
    return rows


NOT_ALIGNED = "its parts do not share their queries row by row; build them together"


def check_counts(kind: str, counts: Sequence[int]) -> None:
    """Refuses draws with different numbers of negatives.

    Raises:
        UserError: says the numbers.
    """
    if len(set(counts)) > 1:
        raise UserError(
            f"kind {kind!r}: its parts have {', '.join(map(str, counts))} negatives a row, and a row gets those of "
            "one; name parts that have as many"
        )


def check_texts(rows: Dataset, name: str) -> None:
    """Refuses empty data, and a text that is missing or blank.

    Raises:
        UserError: names the first such row.
    """
    if len(rows) == 0:
        raise UserError(f"dataset {name}: holds no row")
    for start, table in enumerate(rows.with_format("arrow").iter(READ_ROWS)):
        for column in table.column_names:
            kind = table[column].type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise not_text(name, column, str(kind))
            texts = pc.utf8_trim_whitespace(table[column])
            place = pc.index(pc.fill_null(pc.equal(pc.utf8_length(texts), 0), True), pa.scalar(True)).as_py()
            if place >= 0:
                raise empty_text(name, f"row {start * READ_ROWS + place + 1}", column)


def not_text(name: str, column: str, found: str) -> UserError:
    """The error for a column that holds something else than text."""
    return UserError(
        f"dataset {name}: column {column!r} holds {found} and not text; name another column, or convert it"
    )


def empty_text(name: str, where: str, column: str) -> UserError:
    """The error for a row without a text."""
    return UserError(
        f"dataset {name}: {where}: {column} is empty; leave such rows out of the data, nothing is learnt from them"
    )


def trained_columns(present: Sequence[str], columns: Columns | None, name: str) -> dict[str, str]:
    """The columns that are trained on, in the trainer's order: their names in the data -> `query`, `positive` ...

    >>> trained_columns(["negative_10", "anchor", "positive", "negative", "id"], None, "x")
    {'anchor': 'query', 'positive': 'positive', 'negative': 'negative_1', 'negative_10': 'negative_2'}

    Raises:
        UserError: a column is missing, or names leave a doubt.
    """
    if columns is None:
        columns = _recognised(present, name)
    old = [columns.query, columns.positive, *columns.negatives]
    missing = [column for column in old if column not in present]
    if missing:
        raise UserError(f"dataset {name}: has no column {', '.join(missing)!r}; allowed: {', '.join(present)}")
    if len(set(old)) < len(old):
        raise UserError(f"dataset {name}: columns names one twice: {', '.join(old)}; each holds one text of a row")
    left_out = [column for column in present if column not in old]
    if left_out:
        logger.info("%s: columns %s are not trained on", name, ", ".join(left_out))
    new = ["query", "positive", *(f"negative_{number}" for number in range(1, len(old) - 1))]
    return dict(zip(old, new, strict=True))


def _recognised(present: Sequence[str], name: str) -> Columns:
    """The columns by their names, if these leave no doubt; negatives by their numbers."""
    queries = [column for column in present if column in QUERY_NAMES]
    positives = [column for column in present if column in POSITIVE_NAMES]
    labels = [column for column in present if column.lower() in LABEL_NAMES]
    if len(queries) != 1 or len(positives) != 1:
        what = f"{', '.join(present)} leave a doubt which column is the query and which the positive"
    elif labels:  # those with label 0 would be trained on as if they were right
        what = f"column {labels[0]!r} may say that not every row's {positives[0]} is a right one"
    else:
        negatives = [column for column in present if NEGATIVE_NAME.fullmatch(column)]
        negatives.sort(key=lambda column: int(column.partition("_")[2] or 0))
        return Columns(queries[0], positives[0], tuple(negatives))
    raise UserError(
        f'dataset {name}: {what}; for further data, name them: columns = {{ query = "...", positive = "...", '
        'negatives = ["..."] }; in a data set of yours, keep query, positive and negative_1 ... alone'
    )


def renamed(rows: Dataset, names: Mapping[str, str]) -> Dataset:
    """The wanted columns alone, under their new names."""
    rows = rows.select_columns(list(names))
    return rows.rename_columns({old: new for old, new in names.items() if old != new})


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
    return renamed(rows, trained_columns(rows.column_names, None, f"{source.name}, kind {kind}"))


def _training_kinds(configs: Sequence[str]) -> tuple[str, ...]:
    kinds = [name for name in configs if not name.startswith(("candidates-", "scores-"))]
    return tuple(dict.fromkeys(name for name in kinds if name not in NOT_FOR_TRAINING))


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
