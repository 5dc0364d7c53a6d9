"""Builds a data set: passages, LLM queries, negatives of every kind, selection, one versioned folder.

    python -m builders.build builders/recipes/quickstart.toml [--set llm.concurrency=64] [--out DIR] [--store FILE]
        [--push OWNER/NAME --version v1.0.0]
    python -m builders.build builders/recipes/quickstart.toml --dry-run [--sample-rows 24]
    python -m builders.build builders/recipes/quickstart.toml --doctor

`--doctor` tries the LLM endpoint. `--dry-run` asks the LLM for a few rows and estimates what the whole build will take:
calls, tokens, money and time. A killed build can be started again: no LLM call that was answered is made twice. So can
a killed publication. `builders.steps` does the work; it is imported once the recipe is read and checked.
"""

import sys
from pathlib import Path

from builders.recipe import BuildRecipe
from builders.recipe_checks import check
from builders.spool import spool_beside
from cards.publish.release import add_push_arguments, push_target
from foils.errors import UserError, run_entry
from foils.recipe import Recipe, load_recipe, recipe_arguments

SAMPLE_ROWS = 24


def main(recipe: Recipe[BuildRecipe], out: Path, store_file: Path) -> None:
    """Builds the data set of a recipe in `out`, or finds it there as it would be built.

    Raises:
        UserError: the recipe, the corpus, the endpoint or the output folder is not as it must be.
    """
    check(recipe.config)
    from builders.steps import build

    build(recipe, out, store_file)


def estimate(recipe: Recipe[BuildRecipe], store_file: Path, sample_rows: int) -> None:
    """Prints what the whole build will cost, from real calls for some of its rows.

    Raises:
        UserError: as `main`; also if even the lower end of the estimate is above the budget.
    """
    check(recipe.config)
    from builders.steps import estimated

    estimated(recipe.config, store_file, sample_rows)


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument("--out", type=Path, help="the data set's folder; default: outputs/NAME/dataset")
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("outputs/calls.sqlite"),
        help="the file with the LLM's answers, which builds may share; default: %(default)s",
    )
    add_push_arguments(parser, licence=True, dry_run_alone="without it: say what the build will cost")
    parser.add_argument(
        "--sample-rows", type=int, metavar="N", help=f"passages that --dry-run tries; default: {SAMPLE_ROWS}"
    )
    parser.add_argument("--doctor", action="store_true", help="try the LLM endpoint, build nothing")
    arguments = parser.parse_args()
    rows = arguments.sample_rows
    recipe = load_recipe(arguments.recipe, arguments.overrides, BuildRecipe)
    spool_beside(arguments.store)
    if arguments.doctor:
        check(recipe.config)
        from builders.steps import examined

        return examined(recipe.config)
    target = push_target(arguments, dry_run_alone=True)
    if arguments.dry_run and target is None:
        return estimate(recipe, arguments.store, SAMPLE_ROWS if rows is None else rows)
    if rows is not None:
        raise UserError("--sample-rows belongs to --dry-run without --push; add the one, or leave out the other")
    out = arguments.out or Path("outputs") / recipe.config.name / "dataset"
    spool_beside(out)
    main(recipe, out, arguments.store)
    if target is not None:
        from builders.publish import publish_dataset

        publish_dataset(out, target)
    return None


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
