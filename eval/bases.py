"""Several bases together: what holds on the mean over them, whatever one of them alone would say."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eval.numbers import write_numbers
from eval.page import OneBase, write_report_over_bases
from eval.recipe import CompareRecipe
from eval.tables import Measured, Table, tables
from foils.errors import UserError
from foils.metrics import PerQuery
from foils.provenance import package_versions
from foils.recipe import Recipe


def on_one_base(recipe: Recipe[CompareRecipe]) -> dict[str, Recipe[CompareRecipe]]:
    """Training recipe -> the comparison on its base; of several, each in a folder named as its training recipe.

    Raises:
        UserError: two of them have the same name, and so would share a folder.
    """
    config = recipe.config
    if isinstance(config.training, str):
        return {config.training: recipe}
    stems = Counter(Path(training).stem for training in config.training)
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
        raise UserError(
            f"training: {stems[twice[0]]} recipes are called {twice[0]}, and each base's folder has its recipe's name; "
            "rename all but one"
        )
    parts = {}
    for training in config.training:
        name = Path(training).stem
        one = msgspec.structs.replace(
            config, name=f"{config.name}, {name}", training=training, out=str(config.folder() / name)
        )
        parts[training] = msgspec.structs.replace(recipe, config=one)
    return parts


def over_bases(by_base: Sequence[Sequence[Measured]]) -> list[Measured]:
    """By task, each arm's scores of each query as means over the bases: one base's luck is not another's.

    The queries are the same on every base, so that a difference is averaged query by query, and intervals speak of
    other queries and trainings, not of other bases.

    Args:
        by_base: what each base came to, with the same tasks; arms that one of them lacks are left out.
    """
    found = []
    for same_task in zip(*by_base, strict=True):
        first = same_task[0]
        arms = [arm for arm in first.runs if all(arm in measured.runs for measured in same_task)]
        runs = {
            arm: {seed: _mean([measured.runs[arm][seed] for measured in same_task]) for seed in first.runs[arm]}
            for arm in arms
        }
        found.append(first._replace(runs=runs))
    return found


def _mean(scores: Sequence[PerQuery]) -> PerQuery:
    return {
        query: {name: sum(each[query][name] for each in scores) / len(scores) for name in metrics}
        for query, metrics in scores[0].items()
    }


def write_over_bases(
    recipe: Recipe[CompareRecipe], bases: Sequence[OneBase], by_base: Sequence[Sequence[Measured]], precision: str
) -> tuple[list[Table], bytes]:
    """Writes report, `comparison.json` and every number of the mean over bases; the tables, and the JSON.

    Args:
        recipe: the comparison.
        bases: two may have the same name.
        by_base: what each came to.
        precision: that texts were encoded in.
    """
    config, folder = recipe.config, recipe.config.folder()
    measured = over_bases(by_base)
    found = tables(measured, config.margin)
    finished = {row.arm for row in found[-1].rows}
    config = msgspec.structs.replace(config, arms=tuple(arm for arm in config.arms if arm in finished))
    content = {
        "name": config.name,
        "recipe": {"text": recipe.text, "overrides": recipe.overrides},
        "bases": [base.name for base in bases],
        "arms": config.arms,
        "seeds": config.seeds,
        "margin": config.margin,
        "tables": found,
        "packages": package_versions(),
    }
    numbers = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    (folder / "comparison.json").write_bytes(numbers)
    write_numbers(folder, measured, found)
    write_report_over_bases(folder, config, bases, precision, found)
    return found, numbers
