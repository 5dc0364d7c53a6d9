"""Training rows: one or several kinds of a data set, pinned, as the trainer wants them."""

import json
from pathlib import Path

from datasets import Dataset, get_dataset_config_names, load_dataset
from msgspec import Struct

from cards.errors import UserError
from cards.hub import explained, load_parquet, patiently, pin
from cards.provenance import sha256_file

NO_NEGATIVES = "none"
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
    if dataset.count("/") != 1 or dataset.startswith((".", "/")):
        raise UserError(f"dataset {dataset}: no such folder; wanted a data set's folder or a Hub id (owner/name)")
    if revision is None:
        raise UserError(f"dataset {dataset}: a Hub data set needs its revision, such as --set revision=v1.0.0")
    commit = pin(dataset, revision, "dataset")
    with explained(f"dataset {dataset}@{revision}"):
        configs = patiently(lambda: get_dataset_config_names(dataset, revision=commit))
    return Source(dataset, commit, revision, dataset, _training_kinds(configs))


def load_rows(source: Source, kind: str) -> Dataset:
    """The rows of a kind: `query`, `positive` and its negatives, in the trainer's order.

    Kinds joined by `+` give each row the negatives of all of them, unless the data set has such a mix, with as many
    negatives as any other kind; `none` gives it none.

    Raises:
        UserError: the data set has no such kind, or kinds do not share their queries.
    """
    wanted = source.kinds[:1] if kind == NO_NEGATIVES else (kind,) if kind in source.kinds else tuple(kind.split("+"))
    unknown = [name for name in wanted if name not in source.kinds]
    if unknown or not wanted:
        raise UserError(
            f"kind {kind!r}: {source.name} has no configuration {', '.join(unknown)!r}; allowed: "
            f"{', '.join(source.kinds)}, several joined by '+', or {NO_NEGATIVES}"
        )
    tables = [load_config(source, name) for name in wanted]
    rows = tables[0].select_columns(["query", "positive"])
    if kind == NO_NEGATIVES:
        return rows
    if any(table["query"][:] != rows["query"][:] for table in tables[1:]):
        raise UserError(f"kind {kind!r}: its parts do not share their queries row by row; build them together")
    negatives = [table[column][:] for table in tables for column in table.column_names if "negative" in column]
    for number, texts in enumerate(negatives, start=1):
        rows = rows.add_column(f"negative_{number}", texts)
    return rows


def load_config(source: Source, config: str, split: str = "train") -> Dataset:
    """The rows of one configuration, which must be there.

    Args:
        source: the data set.
        config: such as a kind, `corpus` or `scores-cross-encoder`.
        split: the one that it has: `corpus` and `queries` have splits of their names.
    """
    if source.tag is not None:
        rows: Dataset = load_parquet(source.location, config, split, source.revision)
        return rows
    # Plain files need no card, so folders with only training rows work too.
    files = sorted(map(str, (Path(source.location) / config).glob("*.parquet")))
    return load_dataset("parquet", data_files=files, split="train")


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
