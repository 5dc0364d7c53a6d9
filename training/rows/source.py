"""Data sets, pinned to their content: one of ours, with its kinds, or any table of query-positive rows.

[[also]]
dataset = "sentence-transformers/natural-questions"    # a Hub data set of Parquet files, or local files
revision = "main"                                      # pinned to its commit
share = 0.2                                            # of the rows that are trained on, see training.rows.mixture
columns = { query = "query", positive = "answer" }     # only where names leave a doubt
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import get_dataset_config_names, load_dataset_builder
from msgspec import Struct

from foils.errors import UserError
from foils.hub import download, explained, parquet_builder, patiently, pin
from foils.kinds import NO_NEGATIVES, PAIRS, Draw, parse
from foils.provenance import sha256_file
from training.recipe import MoreData
from training.rows.table import Form, Table

SUFFIXES: Mapping[str, Form] = {".parquet": "parquet", ".jsonl": "json"}
MANIFEST = "manifest.json"
NOT_FOR_TRAINING = ("default", "corpus", "queries", "generated", "fates", "drops", "leakage", "judgements")
OTHERS = ("train-", "exam-", "candidates-", "scores-")
"""How the names of further configurations begin that no model is trained on."""


class Source(Struct, frozen=True):
    """A data set of `builders.build`, or a folder like it.

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
        """The names of all configurations."""
        if self.tag is None:
            return sorted({file.parent.name for file in Path(self.location).glob("*/*.parquet")})
        with explained(f"dataset {self.name}@{self.tag}"):
            names: list[str] = patiently(lambda: get_dataset_config_names(self.location, revision=self.revision))
        return names

    def table(self, config: str, split: str = "train") -> Table:
        """One configuration, which must be there; `corpus` has a split of its name."""
        paths = () if self.tag is not None else tuple(sorted(map(str, Path(self.location, config).glob("*.parquet"))))
        return Table(f"{self.name}/{config}", self.revision, self.tag, self.location, config, split, paths=paths)

    def draws(self, kind: str) -> tuple[Draw, ...]:
        """The draws of a kind; for `none`, a configuration to read queries and positives from.

        Raises:
            UserError: the data set has no such kind.
        """
        if kind == NO_NEGATIVES and self.kinds:
            return (Draw(1.0, tuple(name for name in self.kinds if name not in PAIRS)[:1] or self.kinds[:1]),)
        return parse(kind, self.kinds, self.name)

    def manifest(self) -> dict[str, Any]:
        """The manifest; empty where there is none, as plain training rows need none.

        Raises:
            UserError: it cannot be read, or the Hub cannot be reached.
        """
        here = self.tag is None
        folder = Path(self.location) if here else download(self.location, self.revision, "dataset", [MANIFEST])
        return read_json(folder / MANIFEST, "data set")


def read_json(file: Path, what: str) -> dict[str, Any]:
    """Reads a JSON object; empty where there is no file.

    Raises:
        UserError: the file is not JSON.
    """
    if not file.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise UserError(f"{what} {file}: not JSON; build or train it again, or name another") from None
    return content


def resolve(dataset: str, revision: str | None) -> Source:
    """Pins a data set of ours.

    Raises:
        UserError: the folder or Hub data set is missing, a Hub id came without a revision, or its tag has moved.
    """
    folder = Path(dataset)
    if folder.is_dir():
        files = sorted(folder.glob("*/train-*.parquet"))
        if (folder / MANIFEST).exists():
            name, content = str(read_json(folder / MANIFEST, "data set")["name"]), sha256_file(folder / MANIFEST)
        elif files:
            name, content = folder.resolve().name, "-".join(sha256_file(file)[:16] for file in files)
        else:
            raise UserError(f"dataset {folder}: no data set in it (no {MANIFEST}, no */train-*.parquet)")
        kinds = _training_kinds([file.parent.name for file in files])
        return Source(name, f"sha256:{content}", None, str(folder), kinds)
    wanted = "folder; wanted a data set's folder or a Hub id (owner/name)"
    commit = _pinned(dataset, revision, wanted, "--set revision=v1.0.0")
    pinned = Source(dataset, commit, revision, dataset, ())
    return Source(dataset, commit, revision, dataset, _training_kinds(pinned.configs()))


def resolve_more(more: MoreData) -> Source | Table:
    """Pins further data.

    Raises:
        UserError: the data set, configuration or split is missing, or its files are neither Parquet nor JSON lines.
    """
    if more.kind is not None:
        given = [name for name in ("config", "split", "columns") if getattr(more, name) is not None]
        if given:
            raise UserError(
                f"recipe: also: {more.dataset}: {', '.join(given)} beside kind; kind is for a data set of ours, which "
                "needs nothing else: leave out the one or the other"
            )
        return resolve(more.dataset, more.revision)
    path, allowed = Path(more.dataset), ", ".join(SUFFIXES)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UserError(f"dataset {path}: a {path.suffix or 'nameless'} file; allowed: {allowed}")
        return _local(path, more, SUFFIXES[path.suffix], {"train": [str(path)]})
    if path.is_dir():  # as `datasets` sees it: by its card, or by its files' names
        with explained(f"dataset {path}"):
            config = _config(more, get_dataset_config_names(str(path)))
            builder = load_dataset_builder(str(path), config)
        form = builder.info.builder_name
        if form not in SUFFIXES.values():
            raise UserError(f"dataset {path}: its files are {form}; allowed: {allowed}")
        return _local(path, more, form, builder.config.data_files, None if config == "default" else config)
    commit = _pinned(
        more.dataset, more.revision, "folder or file; wanted one, or a Hub id (owner/name)", "a tag, a commit or main"
    )
    with explained(f"dataset {more.dataset}@{more.revision}"):
        configs = patiently(lambda: get_dataset_config_names(more.dataset, revision=commit))
    config = _config(more, configs)
    split = _split(more, list(parquet_builder(more.dataset, config, commit).config.data_files))
    return Table(more.dataset, commit, more.revision, more.dataset, config, split, wanted=more.columns)


def _pinned(dataset: str, revision: str | None, wanted: str, example: str) -> str:
    """The commit of a Hub data set."""
    if dataset.count("/") != 1 or dataset.startswith((".", "/")):
        raise UserError(f"dataset {dataset}: no such {wanted}")
    if revision is None:
        raise UserError(f"dataset {dataset}: a Hub data set needs its revision, such as {example}")
    return pin(dataset, revision, "dataset")


def _local(
    path: Path, more: MoreData, form: Form, files: Mapping[str, Sequence[str]], config: str | None = None
) -> Table:
    split = _split(more, list(files))
    digests = [sha256_file(Path(file)) for file in files[split]]
    revision = f"sha256:{digests[0] if len(digests) == 1 else '-'.join(digest[:16] for digest in digests)}"
    name, paths = path.resolve().name, tuple(files[split])
    return Table(name, revision, None, str(path), config, split, form, paths, wanted=more.columns)


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


def _training_kinds(configs: Sequence[str]) -> tuple[str, ...]:
    kinds = [name for name in configs if not name.startswith(OTHERS)]
    return tuple(dict.fromkeys(name for name in kinds if name not in NOT_FOR_TRAINING))
