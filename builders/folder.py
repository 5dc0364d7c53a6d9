"""The data set as a folder: Parquet per configuration, card, and the manifest, whose presence means complete."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builders import schema
from cards.dataset import render_card
from cards.errors import UserError
from cards.folders import partial_folder, put_in_place
from cards.provenance import sha256_file

MANIFEST = "manifest.json"
FORMAT = 2
SHARD_BYTES = 500_000_000


def write_config(folder: Path, config: str, table: pa.Table, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Writes one configuration as Parquet, the same bytes for the same rows.

    Args:
        folder: the data set's.
        config: its name.
        table: its rows.
        shard_bytes: how much of the table, as it lies in memory, one file may hold.

    Returns:
        The files, one or more.
    """
    shards = max(1, -(-table.nbytes // shard_bytes))
    rows = max(1, -(-table.num_rows // shards))
    shards = max(1, -(-table.num_rows // rows))
    files = []
    (folder / config).mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        file = folder / config / f"{schema.split_of(config)}-{number:05d}-of-{shards:05d}.parquet"
        pq.write_table(table.slice(number * rows, rows), file, compression="zstd")
        files.append(file)
    return files


def write_folder(folder: Path, configs: Mapping[str, pa.Table], record: Mapping[str, Any]) -> None:
    """Writes a whole data set beside `folder`, then puts it in its place.

    Args:
        folder: where the data set shall lie; an older build of the same recipe there is replaced.
        configs: configuration -> rows; one without rows is left out, since `datasets` cannot load it.
        record: the manifest's content but for `format` and `configs`, which are added.
    """
    partial = partial_folder(folder)
    written = {}
    configs = {config: table for config, table in configs.items() if table.num_rows}
    for config, table in configs.items():
        files = write_config(partial, config, table)
        written[config] = {
            "split": schema.split_of(config),
            "rows": table.num_rows,
            "columns": table.column_names,
            "files": {file.relative_to(partial).as_posix(): sha256_file(file) for file in files},
        }
    manifest = {"format": FORMAT, **record, "configs": written}
    (partial / "README.md").write_text(render_card(manifest, configs), "utf-8")
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    put_in_place(partial, folder)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete data set; None where nothing was built yet.

    Raises:
        UserError: the folder holds something else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return None
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"output folder {folder}: it is not empty and holds no data set ({MANIFEST} is missing or unreadable); "
            "name another with --out"
        ) from None
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"output folder {folder}: its {MANIFEST} is of format {manifest.get('format')}, and this version of Foils "
            f"reads {FORMAT}; build it again into another folder (LLM answers are kept)"
        )
    return manifest
