"""Further data beside the main data set: another one of ours, any Hub data set of Parquet files, or local files.

[[also]]
dataset = "sentence-transformers/natural-questions"
revision = "main"                                      # pinned to its commit
share = 0.2                                            # of the rows that are trained on, see training.mixture
columns = { query = "query", positive = "answer" }     # only where names do not tell
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from datasets import Dataset, get_dataset_config_names, load_dataset, load_dataset_builder
from msgspec import Meta, Struct

from foils.errors import UserError
from foils.hub import explained, load_parquet, parquet_builder, patiently, pin
from foils.provenance import sha256_file
from training.data import (
    LABEL_NAMES,
    Source,
    check_texts,
    is_hub_id,
    negatives_among,
    not_all_right,
    report_left_out,
    resolve,
)

Form = Literal["parquet", "json"]
SUFFIXES: Mapping[str, Form] = {".parquet": "parquet", ".jsonl": "json"}

# Names in the training sets that sentence-transformers publishes.
QUERY_NAMES = ("query", "anchor", "question")
POSITIVE_NAMES = ("positive", "answer", "passage")


class Columns(Struct, frozen=True, forbid_unknown_fields=True):
    """Which columns hold the texts.

    Attributes:
        query: becomes `query`.
        positive: becomes `positive`.
        negatives: become `negative_1`, `negative_2` ..., in this order.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()


class MoreData(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the recipe's `[[also]]` tables.

    Attributes:
        dataset: a data set of ours or any other: a Hub id, a folder, or a `.parquet` or `.jsonl` file.
        revision: the Hub tag, branch or commit; required for a Hub id.
        kind: of a data set of ours, its kind of negatives, as at the recipe's top level. Without it, `config`, `split`
            and `columns` say what is read.
        config: a configuration; needed where there are several.
        split: `train` if not given.
        columns: without it, they are told by their names.
        share: of the rows that are trained on; without it, all rows. See `training.mixture`.
    """

    dataset: str
    revision: str | None = None
    kind: str | None = None
    config: str | None = None
    split: str | None = None
    columns: Columns | None = None
    share: Annotated[float, Meta(gt=0, lt=1)] | None = None


class Plain(Struct, frozen=True):
    """Data that no build of ours made, pinned to its content.

    Attributes:
        name: the Hub id, or the folder's or file's name.
        revision: the Hub commit, or `sha256:...` of the files.
        tag: the revision that was asked for on the Hub; None for local files.
        location: the Hub id, folder or file.
        config: its configuration; None for local files.
        split: its split.
        form: what its files are.
        files: paths, or `hf://` addresses at the commit.
    """

    name: str
    revision: str
    tag: str | None
    location: str
    config: str | None
    split: str
    form: Form
    files: tuple[str, ...]


def resolve_more(more: MoreData) -> Source | Plain:
    """Pins further data.

    Raises:
        UserError: there is no such data set, configuration or split, or its files are neither Parquet nor JSON lines.
    """
    if more.kind is not None:
        given = [name for name in ("config", "split", "columns") if getattr(more, name) is not None]
        if given:
            raise UserError(
                f"recipe: also: {more.dataset}: {', '.join(given)} beside kind; kind is for a data set of ours, which "
                "needs nothing else: leave out the one or the other"
            )
        return resolve(more.dataset, more.revision)
    path = Path(more.dataset)
    if path.is_file():
        return _of_file(path, more)
    if path.is_dir():
        return _of_folder(path, more)
    if not is_hub_id(more.dataset):
        raise UserError(f"dataset {more.dataset}: no such folder or file; wanted one, or a Hub id (owner/name)")
    if more.revision is None:
        raise UserError(f"dataset {more.dataset}: a Hub data set needs its revision, such as a tag, a commit or main")
    commit = pin(more.dataset, more.revision, "dataset")
    with explained(f"dataset {more.dataset}@{more.revision}"):
        configs = patiently(lambda: get_dataset_config_names(more.dataset, revision=commit))
    config = _config(more, configs)
    files = parquet_builder(more.dataset, config, commit).config.data_files
    split = _split(more, list(files))
    return Plain(more.dataset, commit, more.revision, more.dataset, config, split, "parquet", tuple(files[split]))


def load_plain(plain: Plain, columns: Columns | None) -> Dataset:
    """All rows: `query`, `positive`, `negative_1` ...; other columns are left out.

    Raises:
        UserError: a column is missing or holds no text, or the files cannot be read.
    """
    if plain.tag is not None:
        rows: Dataset = load_parquet(plain.location, plain.config, plain.split, plain.revision)
    else:
        with explained(f"dataset {plain.location}"):
            rows = load_dataset(plain.form, data_files=list(plain.files), split="train")
    names = trained_columns(rows.column_names, columns, plain.name)
    rows = rows.select_columns(list(names))
    check_texts(rows, plain.name)
    return rows.rename_columns({old: new for old, new in names.items() if old != new})


def trained_columns(present: Sequence[str], columns: Columns | None, name: str) -> dict[str, str]:
    """Which columns are trained on, in the trainer's order: their names in the data -> `query`, `positive` ...

    >>> trained_columns(["negative", "anchor", "positive", "id"], None, "x")
    {'anchor': 'query', 'positive': 'positive', 'negative': 'negative_1'}

    Raises:
        UserError: a column is missing, or names do not tell which is which.
    """
    if columns is None:
        columns = _recognised(present, name)
    old = [columns.query, columns.positive, *columns.negatives]
    missing = [column for column in old if column not in present]
    if missing:
        raise UserError(f"dataset {name}: has no column {', '.join(missing)!r}; allowed: {', '.join(present)}")
    if len(set(old)) < len(old):
        raise UserError(f"dataset {name}: columns names one twice: {', '.join(old)}; each holds one text of a row")
    report_left_out(present, old, name)
    new = ["query", "positive", *(f"negative_{number}" for number in range(1, len(old) - 1))]
    return dict(zip(old, new, strict=True))


def _recognised(present: Sequence[str], name: str) -> Columns:
    """The columns by their names, if these leave no doubt."""
    queries = [column for column in present if column in QUERY_NAMES]
    positives = [column for column in present if column in POSITIVE_NAMES]
    labels = [column for column in present if column.lower() in LABEL_NAMES]
    if len(queries) != 1 or len(positives) != 1:
        what = f"{', '.join(present)} do not tell which column is the query and which the positive"
    elif labels:
        what = not_all_right(labels[0], positives[0])
    else:
        return Columns(queries[0], positives[0], tuple(negatives_among(present)))
    raise UserError(
        f'dataset {name}: {what}; name them: columns = {{ query = "...", positive = "...", negatives = ["..."] }}'
    )


def _of_file(path: Path, more: MoreData) -> Plain:
    if path.suffix not in SUFFIXES:
        raise UserError(f"dataset {path}: a {path.suffix or 'nameless'} file; allowed: {', '.join(SUFFIXES)}")
    return _local(path, more, SUFFIXES[path.suffix], {"train": [str(path)]})


def _of_folder(path: Path, more: MoreData) -> Plain:
    """As `datasets` sees the folder: by its card, or by its files' names."""
    with explained(f"dataset {path}"):
        config = _config(more, get_dataset_config_names(str(path)))
        builder = load_dataset_builder(str(path), config)
    form = builder.info.builder_name
    if form not in SUFFIXES.values():
        raise UserError(f"dataset {path}: its files are {form}; allowed: {', '.join(SUFFIXES)}")
    return _local(path, more, form, builder.config.data_files, None if config == "default" else config)


def _local(
    path: Path, more: MoreData, form: Form, files: Mapping[str, Sequence[str]], config: str | None = None
) -> Plain:
    split = _split(more, list(files))
    digests = [sha256_file(Path(file)) for file in files[split]]
    revision = f"sha256:{digests[0] if len(digests) == 1 else '-'.join(digest[:16] for digest in digests)}"
    return Plain(path.resolve().name, revision, None, str(path), config, split, form, tuple(files[split]))


def _config(more: MoreData, configs: Sequence[str]) -> str:
    """The configuration that is meant."""
    config = more.config or ("default" if "default" in configs else configs[0] if len(configs) == 1 else None)
    if config is None or config not in configs:
        what = "needs its config" if config is None else f"has no configuration {config!r}"
        raise UserError(f"dataset {more.dataset}: {what}; allowed: {', '.join(configs)}")
    return config


def _split(more: MoreData, splits: Sequence[str]) -> str:
    split = more.split or "train"
    if split not in splits:
        raise UserError(f"dataset {more.dataset}: has no split {split!r}; allowed: {', '.join(map(str, splits))}")
    return split
