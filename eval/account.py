"""What a data set's build says of itself: its manifest, its rows, and what its stages cost."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from foils.hub import download, pin


class Account(NamedTuple):
    """A build's account.

    Attributes:
        manifest: of the data set.
        seconds: stage -> wall time; None where the costs do not lie beside the data set.
        folder: the data set, if it is a folder here.
    """

    manifest: Mapping[str, Any]
    seconds: Mapping[str, float] | None
    folder: Path | None

    def audit(self, name: str) -> Mapping[str, Any]:
        """An audit that the manifest holds, such as `false_negatives`; empty where it was not made."""
        found = (self.manifest.get("audit") or {}).get(name)
        return found if isinstance(found, dict) else {}

    def first_rows(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The first rows of a kind; none where the data set is not a folder here, or the kind is a mix of others."""
        if self.folder is None:
            return []
        for file in sorted((self.folder / kind).glob("*.parquet")):
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(count):
                    rows: list[dict[str, Any]] = batch.to_pylist()
                    return rows
        return []


def read_account(dataset: str, revision: str | None) -> Account | None:
    """The account of a data set, in a folder or on the Hub; None where it has no manifest of ours."""
    folder = Path(dataset)
    here = folder.is_dir()
    if not here:
        if revision is None:
            return None
        folder = download(dataset, pin(dataset, revision, "dataset"), "dataset", ["manifest.json"])
    manifest = _json(folder / "manifest.json")
    if "usage" not in manifest:
        return None
    told = _json(folder.with_name(f"{folder.name}-costs.json")).get("seconds")
    return Account(manifest, told if isinstance(told, dict) else None, folder if here else None)


def _json(file: Path) -> dict[str, Any]:
    """A file's object; empty where there is none to be read."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
