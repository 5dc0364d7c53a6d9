"""The commits that revisions were seen at, written down beside the Hub's cache.

A tag keeps its first commit, so that one that moves is noticed. A branch keeps its last, for work without a network.
"""

import hashlib
import os
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

_TAG, _BRANCH = ".txt", ".branch"


def tagged(repo_id: str, revision: str, repo_type: str) -> tuple[str | None, Path]:
    """The commit that a tag was first seen at, None where it is new; and the file that says so."""
    file = _file(repo_id, revision, repo_type, _TAG)
    return _commit(file), file


def offline(repo_id: str, revision: str, repo_type: str) -> str | None:
    """The commit that a revision had when it was last seen, by this project or by the Hub's own client."""
    own = [_file(repo_id, revision, repo_type, ending) for ending in (_TAG, _BRANCH)]
    its = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type=repo_type) / "refs" / revision
    return next(filter(None, map(_commit, [*own, its])), None)


def note(repo_id: str, revision: str, repo_type: str, commit: str, *, tag: bool) -> None:
    """Writes down where a tag or a branch points."""
    file = _file(repo_id, revision, repo_type, _TAG if tag else _BRANCH)
    if _commit(file) == commit:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(f"{constants.ENDPOINT} {repo_type} {repo_id} {revision} {commit}\n", "utf-8")
    partial.replace(file)


def _commit(file: Path) -> str | None:
    words = file.read_text("utf-8").split() if file.is_file() else []
    return words[-1] if words else None


def _file(repo_id: str, revision: str, repo_type: str, ending: str) -> Path:
    key = f"{constants.ENDPOINT} {repo_type} {repo_id} {revision}"
    return Path(constants.HF_HOME) / "foils-pins" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}{ending}"
