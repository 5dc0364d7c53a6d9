"""Reads passages as they are, in batches: files, folders, a Hub data set, Python's own documentation."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from builders.corpus import python_docs
from foils.archives import unpacked
from foils.beir import find_part, texts
from foils.errors import UserError
from foils.hub import data_files, licence_of, pin
from foils.shards import by_split, files_of, of_split
from foils.tables import FORMS, Rows, form_of, read

WHAT = "corpus"
"""What errors call the files."""
MAY_BE_MISSING = "title"  # the recipe's default; another title column was asked for by name


class CorpusConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where passages come from and which of them are kept.

    Attributes:
        source: a file of any form that `foils.tables` reads, a BEIR folder, a folder of such files, a data set that
            `datasets` saved, a Hub data set id, or `python-docs`.
        revision: the Hub commit or tag; required for a Hub id.
        config: the configuration of a Hub data set, or of a copy of one, that holds the passages.
        split: its split.
        id_column: the column with the passage ids.
        title_column: the column with their titles; the default may be absent.
        text_column: the column with their texts.
        group_column: the column with the document that a passage is a part of; none is shared by exam and training.
        sample: passages that get a query; 0 = all. With `queries.source`, `queries.sample` says how many queries.
        min_chars: passages with a shorter text, or a shorter title and no text, are dropped; so are those with more
            than `max_chars`.
        license: the corpus's licence for the card, as the Hub spells it.
        language: the corpus's, an ISO 639 code with or without a region; chooses stemmer, stop words, prompts and
            checks. Without it, it is detected.
    """

    source: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    id_column: str = "_id"
    title_column: str = "title"
    text_column: str = "text"
    group_column: str | None = None
    sample: Annotated[int, Meta(ge=0)] = 300
    min_chars: Annotated[int, Meta(ge=1)] = 1
    max_chars: Annotated[int, Meta(ge=1)] = 20_000
    license: str | None = None
    language: str | None = None


class Source(NamedTuple):
    """An opened source.

    Attributes:
        batches: ids, titles, texts and, with `group_column`, documents of its passages; read as they are taken.
        files: those that the passages lie in; none of Python's own documentation.
        revision: the Hub commit or the interpreter's version; None of local files.
        license: what the recipe or the source itself says; None where neither says anything.
    """

    batches: Iterator[Rows]
    files: list[Path]
    revision: str | None
    license: str | None


def open_source(config: CorpusConfig) -> Source:
    """Opens the source that a recipe names.

    Raises:
        UserError: the source is not there. While it is read: it is malformed, a column is missing, or a row
            has no id.
    """
    if config.source == "python-docs":
        columns = ("_id", "title", "text", *([config.group_column] if config.group_column else []))
        records = list(python_docs.passages())
        values = [[record.get(name) for record in records] for name in columns]
        rows = Rows(columns[:3], values, range(1, len(records) + 1), "corpus python-docs: row")
        return Source(as_texts(iter([rows]), config), [], python_docs.revision(), config.license or "psf-2.0")
    path = unpacked(Path(config.source), "corpus")
    if path.is_dir():
        files = find_part(path, "corpus") if config.config is None else []
        shards = by_split(files)
        if config.split in shards:
            files = of_split(shards, config.split, f"corpus {path}")
        files = files or files_of(path, config.config, config.split, "corpus")
        return Source(_read(files, config), files, None, config.license)
    if path.exists():
        return Source(_read([path], config), [path], None, config.license)
    if form_of(path) or config.source.count("/") != 1 or config.source.startswith((".", "/", "~")):
        raise UserError(
            f"corpus {config.source}: no such file or folder; wanted a file ({', '.join(FORMS)}), a BEIR folder, a "
            "folder of such files, a Hub data set id (owner/name) with its revision, or python-docs"
        )
    if config.revision is None:
        raise UserError(
            f"corpus {config.source}: no such file or folder here, and a Hub data set needs corpus.revision (a commit "
            "or tag), so that the build can be repeated"
        )
    commit = pin(config.source, config.revision, "dataset")
    files = data_files(config.source, config.config, config.split, commit)
    licence = config.license or licence_of(config.source, commit)
    return Source(_read(files, config), files, commit, licence)


def columns_of(config: CorpusConfig) -> tuple[str, ...]:
    """The columns of ids, titles, texts and, where one is named, documents."""
    grouped = () if config.group_column is None else (config.group_column,)
    return config.id_column, config.title_column, config.text_column, *grouped


def _read(files: list[Path], config: CorpusConfig) -> Iterator[Rows]:
    return as_texts(read(files, columns_of(config), WHAT), config)


def as_texts(rows: Iterable[Rows], config: CorpusConfig, *, whole: bool = True) -> Iterator[Rows]:
    """Rows whose values are texts; raises as `foils.beir.texts`, and of missing columns where the source is `whole`."""
    needed = {*columns_of(config)} - {MAY_BE_MISSING} if whole else set()
    remedy = "name yours with corpus.id_column, title_column, text_column or group_column"
    return texts(rows, columns_of(config), needed, f"{WHAT} {config.source}", remedy)
