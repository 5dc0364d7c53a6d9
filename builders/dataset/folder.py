"""The data set as a folder: Parquet per configuration, card, and the manifest, whose presence means complete."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builders import schema
from cards.dataset import render_card
from foils.errors import UserError
from foils.folders import locked, partial_folder, put_in_place, recover
from foils.provenance import sha256_file

MANIFEST = "manifest.json"
FORMAT = 4
SHARD_BYTES = 500_000_000
GROUP_BYTES = 100_000_000  # the Hub's viewer reads no row group above 300 MB


def write_config(folder: Path, config: str, table: pa.Table, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Writes one configuration as Parquet, the same bytes for the same rows; files of other rows there go.

    Args:
        folder: the data set's.
        config: its name.
        table: its rows.
        shard_bytes: how much of the table, as it lies in memory, one file may hold.

    Returns:
        The files, one or more.
    """
    into, split = folder / config.partition("/")[0], schema.split_of(config)
    shards = max(1, -(-table.nbytes // shard_bytes))
    rows = max(1, -(-table.num_rows // shards))
    shards = max(1, -(-table.num_rows // rows))
    group = max(1, rows * GROUP_BYTES // max(GROUP_BYTES, table.nbytes // shards))
    files = []
    into.mkdir(parents=True, exist_ok=True)
    for outdated in into.glob(f"{split}-*.parquet"):
        outdated.unlink()
    for number in range(shards):
        file = into / f"{split}-{number:05d}-of-{shards:05d}.parquet"
        pq.write_table(table.slice(number * rows, rows), file, compression="zstd", row_group_size=group)
        files.append(file)
    return files


def write_folder(folder: Path, configs: Mapping[str, pa.Table], record: Mapping[str, Any]) -> None:
    """Writes a whole data set beside `folder`, then puts it in its place.

    Args:
        folder: where the data set shall lie; an older build of the same recipe there is replaced.
        configs: configuration -> rows; one without rows is left out, since `datasets` cannot load it.
        record: the manifest's content without `format` and `configs`, which are added.
    """
    partial = partial_folder(folder)
    _complete(partial, {"format": FORMAT, **record, "configs": _write_configs(partial, configs)}, {})
    put_in_place(partial, folder)


def amend(
    folder: Path,
    record: Mapping[str, Any],
    configs: Mapping[str, pa.Table] | None = None,
    files: Mapping[str, bytes | None] | None = None,
    out: Path | None = None,
) -> None:
    """Writes a data set again with some things changed; what stays is linked and not copied.

    Args:
        folder: a complete data set.
        record: entries of the manifest that change; None takes one out.
        configs: configurations that change; one without rows goes.
        files: path in the folder -> content, of files without rows; None takes one out, all others stay.
        out: where the changed data set shall lie; without it, in the place of the old one.

    Raises:
        UserError: the folder holds no data set.
    """
    manifest, configs, files, out = read_complete(folder), configs or {}, files or {}, out or folder
    if out.resolve() != folder.resolve():
        if folder.resolve().is_relative_to(out.resolve()):
            raise UserError(f"output folder {out}: the data set {folder} lies in it; name another with --out")
        other = read_manifest(out)  # refuses a folder that holds something else
        if other is not None and other["recipe"]["text"] != manifest["recipe"]["text"]:
            raise UserError(
                f"output folder {out}: it holds {other['name']!r}, built from another recipe; name another with --out, "
                "or delete it"
            )
    with locked(out):
        partial = partial_folder(out)
        kept = {name: entry for name, entry in manifest["configs"].items() if name not in configs}
        kept_files = {path: digest for path, digest in manifest.get("files", {}).items() if path not in files}
        for path in [*kept_files, *(path for entry in kept.values() for path in entry["files"])]:
            _link(folder / path, partial / path)
        entries = {**kept, **_write_configs(partial, configs)}
        order = [name for name in dict.fromkeys([*manifest["configs"], *entries]) if name in entries]
        amended = {**manifest, **record, "configs": {name: entries[name] for name in order}, "files": kept_files}
        for key in [key for key, value in record.items() if value is None]:
            del amended[key]
        _complete(partial, amended, {path: content for path, content in files.items() if content is not None})
        put_in_place(partial, out)


def cache_of(folder: Path) -> Path:
    """The folder for what is computed about a data set and kept; it lies beside the data set."""
    return folder.resolve().with_name(f"{folder.resolve().name}-cache")


def read_config(folder: Path, manifest: Mapping[str, Any], config: str) -> pa.Table:
    """The rows of a configuration; none of its columns where the data set does not have it."""
    files = manifest["configs"].get(config, {}).get("files", {})
    tables = [pq.read_table(folder / path, memory_map=True) for path in files]
    return pa.concat_tables(tables) if tables else pa.table({})


def _write_configs(partial: Path, configs: Mapping[str, pa.Table]) -> dict[str, dict[str, Any]]:
    """Writes configurations into files that are named after their content, and returns their entries in the manifest.

    `load_dataset` caches a local folder by its last name and its card's YAML, in which the files' names stand: without
    the content in them, another build would be handed this one's rows.
    """
    entries = {}
    for config, table in configs.items():
        if not table.num_rows and config != "fates":  # of a data set without negatives
            continue
        files = {}
        for file in write_config(partial, config, table):
            digest = sha256_file(file)
            named = file.rename(file.with_stem(f"{file.stem}-{digest[:16]}"))
            files[named.relative_to(partial).as_posix()] = digest
        split = schema.split_of(config)
        entries[config] = {"split": split, "rows": table.num_rows, "columns": table.column_names, "files": files}
    return entries


def _complete(partial: Path, manifest: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """Adds files, the card and, last, the manifest."""
    for path, content in files.items():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        (partial / path).write_bytes(content)
    listed = {**manifest.pop("files", {}), **{path: sha256_file(partial / path) for path in files}}
    if listed:
        manifest["files"] = dict(sorted(listed.items()))
    (partial / "README.md").write_text(render_card(manifest, partial), "utf-8")
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def read_complete(folder: Path) -> dict[str, Any]:
    """The manifest of a data set that must be there.

    Raises:
        UserError: there is none.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"data set {folder}: empty or not there; build it first: python -m builders.build RECIPE")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete data set; None where nothing was built yet.

    Raises:
        UserError: the folder holds something else.
    """
    recover(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return None
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"folder {folder}: it is not empty and holds no data set ({MANIFEST} is missing or unreadable); name "
            "another folder"
        ) from None
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"output folder {folder}: its {MANIFEST} is of format {manifest.get('format')}, and this version of Foils "
            f"reads {FORMAT}; build it again into another folder (LLM answers are kept)"
        )
    return manifest
