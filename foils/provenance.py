"""Where things came from: hashes of files and models, versions of packages, the commit of the code."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "accelerate",
    "bm25s",
    "datasets",
    "huggingface_hub",
    "mteb",
    "pyarrow",
    "sentence-transformers",
    "torch",
    "transformers",
)


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """Path (with `/`) -> SHA-256 (hex) of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}


def sha256_json(value: object) -> str:
    """SHA-256 (hex) of a JSON value, whatever the order of its keys.

    >>> sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """A JSON value as one text, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def sha256_texts(texts: Iterable[Iterable[str]]) -> str:
    """SHA-256 (hex) of rows of strings, in their order."""
    digest = hashlib.sha256()
    for row in texts:
        digest.update(row_bytes(row))
    return digest.hexdigest()


def row_bytes(row: Iterable[str]) -> bytes:
    """A row of strings as `sha256_texts` hashes it.

    >>> row_bytes(["a", "ü"]).decode()
    '["a", "ü"]'
    """
    return b"[" + b", ".join(map(msgspec.json.encode, row)) + b"]"


@cache
def package_versions() -> Mapping[str, str]:
    """The installed versions of the packages that shape the results."""
    return {name: metadata.version(name) for name in PACKAGES}


@cache
def code_version(*places: str) -> Mapping[str, str | None]:
    """Identifies the code: SHA-256 over the Python, TOML and template files of folders and files, and the git commit.

    The commit is None outside a checkout; the hash tells edited code from committed code.
    """
    files = sorted(
        path
        for place in places
        for path in [ROOT / place, *(ROOT / place).rglob("*")]
        if path.suffix in {".py", ".md", ".toml", ".html"} and "recipes" not in path.parts and path.name != "README.md"
    )
    digest = sha256_json({str(path.relative_to(ROOT)): sha256_file(path) for path in files})
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return {"sha256": digest, "commit": None}
    return {"sha256": digest, "commit": git.stdout.strip()}
