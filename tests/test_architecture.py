"""Stages talk through artefacts: `builders`, `training` and `eval` import `cards` and nothing of each other."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("builders", "training", "eval", "cards")
ALLOWED = {
    "builders": {"builders", "cards"},
    "training": {"training", "cards"},
    "eval": {"eval", "cards"},
    "cards": {"cards"},
}
FILES = [path for stage in STAGES for path in sorted((ROOT / stage).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_cross_only_to_cards(path):
    stage = path.relative_to(ROOT).parts[0]
    assert not {name for name in imported(path) if name in STAGES} - ALLOWED[stage]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes_stay_readable(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 330
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 70, node.name


def test_no_module_shadows_a_library_when_run_as_a_script():
    beside_train = {path.stem for path in (ROOT / "training").glob("*.py")}
    assert not beside_train & (set(sys.stdlib_module_names) | {"datasets", "accelerate", "torch", "transformers"})


def test_no_junk_drawers():
    assert not {path.stem for path in FILES} & {"utils", "common", "helpers", "types", "misc"}


def test_no_personal_paths_and_no_remote_code():
    for path in FILES:
        text = path.read_text()
        assert "/home/" not in text
        assert "trust_remote_code=True" not in text
