"""What a stranger gets: the published files, read back from the Hub into an empty cache.

python -m cards.publish.readback OWNER/NAME REVISION CONFIG=SPLIT ...     prints rows and columns of each as JSON

The Hub's clients hand out cached files without asking, so reading back happens in a folder of its own, and loading in a
process of its own that knows no other.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import get_token
from tqdm import tqdm

from foils.errors import UserError, scrub
from foils.hub import RepoType, client, explained, patiently
from foils.provenance import ROOT, sha256_file

DOWNLOADS = 4
AGAIN = "main still holds what it held; run the same command again"


def check_bytes(home: Path, repo_id: str, repo_type: RepoType, commit: str, expected: Mapping[str, str]) -> None:
    """Downloads files into an empty cache, `home`, and compares their SHA-256 (path -> hex).

    Raises:
        UserError: a file cannot be read or has other bytes.
    """

    def read(path: str) -> None:
        local = patiently(
            lambda: client().hf_hub_download(
                repo_id, path, repo_type=repo_type, revision=commit, cache_dir=home / "hub"
            )
        )
        found = sha256_file(Path(local))
        if found != expected[path]:
            raise UserError(f"{repo_id}@{commit}: {path} came back with SHA-256 {found}, not {expected[path]}; {AGAIN}")

    with explained(f"reading back {repo_id}@{commit}"), ThreadPoolExecutor(DOWNLOADS) as pool:
        readings = [pool.submit(read, path) for path in expected]
        try:
            for reading in tqdm(readings, "reading back", unit="file", leave=False, disable=None):
                reading.result()
        except BaseException:  # Ctrl-C too: what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_configs(repo_id: str, expected: Mapping[str, Mapping[str, Any]], home: Path, revision: str) -> None:
    """Loads every configuration with `datasets`, as a reader would, and compares rows and columns.

    Args:
        repo_id: of the data set.
        expected: configuration -> `split`, `rows`, `columns`.
        home: the cache, which may hold the files already.
        revision: the tag.

    Raises:
        UserError: one cannot be loaded or is not as it was written.
    """
    # The token's file lies in the home that is left, so it goes along in the environment.
    environment = {**os.environ, "HF_HOME": str(home), "HF_TOKEN": get_token() or ""}
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    splits = (f"{config}={about['split']}" for config, about in expected.items())
    command = [sys.executable, "-m", "cards.publish.readback", repo_id, revision, *splits]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        last = scrub(finished.stderr.strip().rpartition("\n")[2])
        raise UserError(f"{repo_id}@{revision}: cannot be loaded as published: {last}; run the same command again")
    found = json.loads(finished.stdout.splitlines()[-1])
    for config, about in expected.items():
        wanted = {"rows": about["rows"], "columns": list(about["columns"])}
        if found.get(config) != wanted:
            raise UserError(
                f"{repo_id}@{revision}: configuration {config!r} loads as {found.get(config)}, not as {wanted}; {AGAIN}"
            )


def _load_all(repo_id: str, revision: str, splits: Mapping[str, str]) -> dict[str, Any]:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    loaded = {}
    for config, split in splits.items():
        rows = patiently(lambda: load_dataset(repo_id, config.partition("/")[0], split=split, revision=revision))  # noqa: B023
        loaded[config] = {"rows": len(rows), "columns": rows.column_names}
    return loaded


if __name__ == "__main__":
    wanted = dict(argument.split("=", 1) for argument in sys.argv[3:])
    print(json.dumps(_load_all(sys.argv[1], sys.argv[2], wanted)), flush=True)
    os._exit(0)  # threads of the libraries that are still under way have been seen to abort the interpreter's end
