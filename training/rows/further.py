"""Further data beside the main data set: another one of ours, any Hub data set of Parquet files, or local files.

[[also]]
dataset = "sentence-transformers/natural-questions"
revision = "main"                                      # pinned to its commit
share = 0.2                                            # of the rows that are trained on, see training.rows.mixture
columns = { query = "query", positive = "answer" }     # only where names leave a doubt
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from datasets import Dataset, get_dataset_config_names, load_dataset, load_dataset_builder
from msgspec import Struct

from foils.errors import UserError
from foils.hub import explained, load_parquet, parquet_builder, patiently, pin
from foils.provenance import sha256_file
from training.recipe import Columns, MoreData
from training.rows.source import Source, check_texts, is_hub_id, renamed, resolve, trained_columns

Form = Literal["parquet", "json"]
SUFFIXES: Mapping[str, Form] = {".parquet": "parquet", ".jsonl": "json"}


class Plain(Struct, frozen=True):
    """Data that was not made by `builders.build`, pinned to its content.

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
    """Loads all rows: `query`, `positive`, `negative_1` ...; other columns are left out.

    Raises:
        UserError: a column is missing or does not hold texts, or the files cannot be read.
    """
    if plain.tag is not None:
        rows: Dataset = load_parquet(plain.location, plain.config, plain.split, plain.revision)
    else:
        with explained(f"dataset {plain.location}"):
            rows = load_dataset(plain.form, data_files=list(plain.files), split="train")
    names = trained_columns(rows.column_names, columns, plain.name)
    check_texts(rows.select_columns(list(names)), plain.name)
    return renamed(rows, names)


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
