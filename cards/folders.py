"""Output folders that are complete or absent: written beside their place, then renamed."""

import shutil
from pathlib import Path


def recover(folder: Path) -> None:
    """Puts back what a killed process had just moved out of its place."""
    outdated = _outdated(folder)
    if outdated.is_dir() and not folder.exists():
        outdated.rename(folder)


def partial_folder(folder: Path) -> Path:
    """An empty folder beside `folder`, to write into."""
    recover(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put_in_place(partial: Path, folder: Path) -> None:
    """Renames a finished folder to its place; what stood there goes only then."""
    outdated = _outdated(folder)
    shutil.rmtree(outdated, ignore_errors=True)
    if folder.exists():
        folder.rename(outdated)
    partial.rename(folder)
    shutil.rmtree(outdated, ignore_errors=True)


def _outdated(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.outdated")
