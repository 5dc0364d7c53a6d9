"""Output folders that are complete or absent: written beside their place, then renamed."""

import shutil
from pathlib import Path


def partial_folder(folder: Path) -> Path:
    """An empty folder beside `folder`, to write into."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put_in_place(partial: Path, folder: Path) -> None:
    """Renames a finished folder to its place; what stood there goes only then."""
    outdated = folder.with_name(f"{folder.name}.outdated")
    shutil.rmtree(outdated, ignore_errors=True)
    if folder.exists():
        folder.rename(outdated)
    partial.rename(folder)
    shutil.rmtree(outdated, ignore_errors=True)
