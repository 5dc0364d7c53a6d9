"""The structure: which package imports which, no import circle, and sizes that a newcomer can read."""

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.fixtures import ROOT

ALLOWED = {
    "foils": {"foils"},
    "cards": {"cards", "foils"},
    "builders": {"builders", "cards", "foils"},
    "training": {"training", "cards", "foils"},
    "eval": {"eval", "cards", "foils"},
}
# Lines of Python a package may have. They only ever get smaller; a new capability earns its lines elsewhere.
BUDGETS = {"foils": 5_510, "cards": 2_650, "builders": 17_160, "training": 5_000, "eval": 4_360, "tests": 26_700}
MODULE_LINES, FUNCTION_LINES = 300, 50
JUNK_DRAWERS = {"utils", "common", "helpers", "types", "misc"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


FILES = [path for package in ALLOWED for path in modules(package)]


@cache
def tree(path):
    return ast.parse(path.read_text())


def name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name(path) for path in FILES}


def imports(path):
    """The project's modules that a module imports, at its top, inside functions and for types alone."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in NAMES or node.module in NAMES:
                    yield inner if inner in NAMES else node.module


def too_long(paths):
    for path in paths:
        lines = len(path.read_text().splitlines())
        if lines > MODULE_LINES:
            yield f"{name(path)}: {lines} lines"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield f"{name(path)}.{node.name}: {lines} lines"


def test_a_package_imports_what_lies_below_it_alone():
    for path in FILES:
        package = path.relative_to(ROOT).parts[0]
        assert {module.split(".")[0] for module in imports(path)} <= ALLOWED[package], path


def test_no_import_circle_even_for_types_alone():
    graph = {name(path): set(imports(path)) - {name(path)} for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_modules_and_functions_fit_a_screen_or_six():
    assert not list(too_long(FILES))


@pytest.mark.parametrize("package", BUDGETS)
def test_a_package_keeps_its_budget(package):
    lines = sum(len(path.read_text().splitlines()) for path in modules(package))
    assert lines <= BUDGETS[package], f"{package}: {lines} lines; {BUDGETS[package]} are allowed"


def test_no_module_has_the_name_of_a_library():
    """A script's folder comes first on the path, and a reader thinks of the library first."""
    libraries = set(sys.stdlib_module_names) | {"datasets", "accelerate", "torch", "transformers"}
    assert not [name(path) for path in FILES if path.stem in libraries]


def test_no_module_of_tests_imports_another():
    """What several of them need is in `tests/fixtures`, or in a conftest."""
    for path in modules("tests"):
        sources = {node.module for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)}
        assert not [source for source in sources if source.rpartition(".")[2].startswith("test_")], path


def test_no_junk_drawers():
    assert not {path.stem for path in FILES} & JUNK_DRAWERS


def test_no_personal_paths_and_no_remote_code():
    for path in FILES:
        assert "/home/" not in path.read_text()
        assert "trust_remote_code=True" not in path.read_text()


def test_the_first_page_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_commands_and_recipes_name_nothing_outside_the_checkout():
    pages = [
        ROOT / "README.md",
        *ROOT.glob("*/README.md"),
        *ROOT.glob("*/studies/*/*.*ml"),
        *ROOT.glob("*/recipes/*.toml"),
    ]
    assert len(pages) > 20
    assert not [page for page in pages if "../shared" in page.read_text()]
