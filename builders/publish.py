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


def write_config(folder: Path, config: str, table: pa.Table) -> Path:
    """Writes one configuration as Parquet, the same bytes for the same rows, and returns the file."""
    file = folder / config / f"{schema.split_of(config)}-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, compression="zstd")
    return file


def write_folder(folder: Path, configs: Mapping[str, pa.Table], record: Mapping[str, Any]) -> None:
    """Writes a whole data set beside `folder`, then puts it in its place.

    Args:
        folder: where the data set shall lie; an older build of the same recipe there is replaced.
        configs: configuration -> rows.
        record: the manifest's content but for `configs`, which is added.
    """
    partial = partial_folder(folder)
    written = {}
    for config, table in configs.items():
        file = write_config(partial, config, table)
        written[config] = {
            "split": schema.split_of(config),
            "rows": table.num_rows,
            "files": {str(file.relative_to(partial)): sha256_file(file)},
        }
    manifest = {**record, "configs": written}
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
    return manifest
