"""What a user can mend ends a command in one line; a mistake of the code shows its traceback."""

from pathlib import Path

import pytest

from eval.recipe import CompareRecipe
from foils.errors import UserError, run_entry
from foils.recipe import decode_config, overridden

RECIPE = {"name": "x", "dataset": "x", "training": "x", "tasks": ["x"]}


@pytest.mark.parametrize("place", ["file/below", "file", "x" * 300, "/proc/nowhere"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys, place):
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / place
    assert run_entry(lambda: folder.mkdir(parents=True)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder}: ")
    assert said.count("\n") == 1


def test_a_missing_package_is_named(capsys):
    assert run_entry(lambda: __import__("no_such_package.inner")) == 2
    assert "error: no_such_package is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("mistake", [lambda: Path("no/such/file").read_text(), lambda: __import__("foils.no_such")])
def test_a_mistake_of_the_code_is_not_explained_away(mistake):
    with pytest.raises((FileNotFoundError, ModuleNotFoundError)):
        run_entry(mistake)


def test_a_table_is_called_one():
    with pytest.raises(UserError, match=r"build: expected `table`, got `int`$"):
        decode_config({**RECIPE, "build": 3}, CompareRecipe, "x.toml")


@pytest.mark.parametrize("given", ["seeds=1,2,3", "seeds=5", "arms=[none,bm25]", "tasks=my folder/beir"])
def test_a_list_that_the_shell_took_apart(given):
    key = given.partition("=")[0]
    remedy = f"in a shell: --set '{key}=.*', texts in double quotes$"
    with pytest.raises(UserError, match=f"expected `.*array`, .*; {remedy}"):
        decode_config(overridden({**RECIPE}, [given]), CompareRecipe, "x.toml")
