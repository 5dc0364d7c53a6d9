"""Which files of a folder are a split's."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foils.errors import UserError, scrub
from foils.tables import WANTED, form_of, one_line
from foils.words import listed

logger = logging.getLogger(__name__)

_SPLITS = {"train", "test", "validation", "valid", "val", "dev"}
_SHARD = re.compile(r"-\d+(-of-\d+)?(-[0-9a-f]{16})?$")


def files_of(folder: Path, config: str | None, split: str, what: str) -> list[Path]:
    """The files of a folder's split: a data set saved by `datasets`, a copy of a Hub repository, or any files.

    `datasets` reads files of one ending, and of those whose names have the word `train` in them no others. So it is
    asked only about folders that say in their README what their splits are. All files of other folders are read,
    unless each is named after a split.

    Raises:
        UserError: the split is missing, or nothing in the folder that is read.
    """
    from datasets import load_from_disk
    from datasets.data_files import FILES_TO_IGNORE

    saved = {file.parent.name: [file.parent] for file in sorted(folder.glob("*/state.json"))}
    if saved:
        (folder,) = of_split(saved, split, f"{what} {folder}")
    if (folder / "state.json").exists():  # caches of what was computed of a saved data set may lie beside its files
        return [Path(each["filename"]) for each in load_from_disk(str(folder)).cache_files]
    readme = folder / "README.md"
    if config or (readme.exists() and re.search("^configs:", readme.read_text("utf-8", "replace"), re.MULTILINE)):
        return files_of_copy(folder, config, split, what)
    found: dict[str | None, list[Path]] = {}
    others: list[str] = []
    for file in sorted(folder.rglob("*")):
        names = file.relative_to(folder).parts
        hidden = any(name.startswith((".", "__")) for name in names) or file.name in FILES_TO_IGNORE
        if hidden or file.is_dir():
            continue
        if form_of(file) is None or _is_beirs(file):
            others.append("/".join(names))
        else:
            named = next((name for name in map(split_of, reversed(names)) if name in _SPLITS), None)
            found.setdefault(named, []).append(file)
    if not found:  # there may be forms that `datasets` alone knows
        return files_of_copy(folder, config, split, what)
    if others:
        logger.info("%s %s: left out, of no form that is read or no passages: %s", what, folder, listed(others))
    if None in found:
        found = {"train": sorted(file for files in found.values() for file in files)}
    return of_split(found, split, f"{what} {folder}")


def files_of_copy(folder: Path, config: str | None, split: str, what: str) -> list[Path]:
    """The files of a split as `datasets` finds them in a copy of a Hub repository; raises as `files_of`."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    try:
        found = load_dataset_builder(str(folder.absolute()), config).config.data_files
    except (DatasetNotFoundError, FileNotFoundError, RuntimeError, ValueError) as error:  # RuntimeError: a script
        raise UserError(f"{what} {folder}: {in_short(error, f'wanted files of {WANTED}')}") from None
    return [Path(file) for file in of_split(found, split, f"{what} {folder}")]


def in_short(error: Exception, remedy: str) -> str:
    """What `datasets` did not find, in a line, and the remedy; where there are several configurations, to name one."""
    words = one_line(scrub(str(error)).partition("Example of usage")[0])
    return f"{words}; {'name one of them with `config`' if 'onfig' in words else remedy}"


def _is_beirs(file: Path) -> bool:
    """Whether a file holds queries or judgements beside a corpus."""
    above = file.parents[file.parent.name == "qrels"]
    return (split_of(file.name) == "queries" or above != file.parent) and any(above.glob("corpus.*"))


def of_split(found: Any, split: str, where: str) -> list[Any]:
    """The files of a split; which others there are is reported.

    Raises:
        UserError: the split is missing.
    """
    split = next(iter(found)) if len(found) == 1 and split in {"corpus", "queries"} else split  # as mteb does
    if split not in found:
        raise UserError(f"{where}: it has no split {split!r}; name one of its own: {', '.join(map(str, found))}")
    others = ", ".join(str(name) for name in found if name != split)
    if others:
        logger.info("%s: its split %r is read; left out: %s", where, split, others)
    return list(found[split])


def split_of(name: str) -> str:
    """What the name of a file starts with, before endings and the number of a shard.

    >>> split_of("train-00000-of-00002.parquet"), split_of("test-hard.jsonl.gz")
    ('train', 'test-hard')
    """
    return _SHARD.sub("", name.partition(".")[0])


def by_split(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by what their names start with, which is a split's name where they are shards of splits."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(split_of(file.name), []).append(file)
    return found
