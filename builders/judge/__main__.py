"""Judges what compared systems found for an exam's queries, so that other answers than the known one count.

    python -m builders.judge DATASET --comparison outputs/NAME/comparison.json --recipe RECIPE.toml [--out FOLDER]
    python -m builders.judge DATASET --comparison FILE ... --judge cross-encoder --model MODEL [--out FOLDER]

The ten best hits of every system are pooled, and those without a judgement are graded. The LLM is that of the recipe's
[exam.llm], otherwise of [llm]; it must quote the words that answer the query. The judged data set goes to a folder of
its own; compare again with `--set dataset=` that folder. No answer is paid for twice.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from builders.audit.judges import STORE, add_judge_arguments, asking, check_judge
from builders.dataset.folder import amend, read_manifest
from builders.dataset.read import DataSet
from builders.judge.judging import Grader, by_cross_encoder, by_llm, inputs_of, judged, lines
from builders.judge.pool import Asked, asked_about
from builders.llm.client import identified
from builders.recipe import BuildRecipe
from builders.scores.llm_judge import EXAM_STAGE
from foils.errors import UserError, run_entry
from foils.recipe import load_recipe

logger = logging.getLogger(__name__)


class Options(Struct, frozen=True):
    """What the command line says; `_entry` explains each option."""

    comparison: Sequence[Path]
    judge: str = "llm"
    model: str | None = None
    recipe: Path | None = None
    overrides: Sequence[str] = ()
    store: Path = STORE
    sample: int = 100
    seed: int = 42
    out: Path | None = None


def main(folder: Path, options: Options) -> Path:
    """Judges the hits of compared systems, prints what was found, and writes the judged data set; returns its folder.

    Raises:
        UserError: the options contradict each other, data set, comparison, judge or output folder are not as they must
            be, or the judge is no better than chance.
    """
    check_judge(options.judge, options.model, options.recipe, options.sample)
    dataset = DataSet(folder)
    asked = asked_about(dataset, options.comparison, options.sample, options.seed)
    out = options.out or folder.resolve().with_name(f"{folder.resolve().name}-judged")
    if options.recipe is None:
        _judge(dataset, asked, by_cross_encoder(dataset, options.model or ""), out, lambda: None)
        return out
    recipe = load_recipe(options.recipe, options.overrides, BuildRecipe).config
    llm = (recipe.exam and recipe.exam.llm) or recipe.llm
    with asking(llm, options.store) as session:
        judge = by_llm(dataset, identified(llm), recipe.negatives.llm_judge, session.run, options.seed)
        _judge(dataset, asked, judge, out, lambda: session.ledger.summary()[EXAM_STAGE])
    return out


def _judge(dataset: DataSet, asked: Asked, judge: Grader, out: Path, spent: Callable[[], Any]) -> None:
    """Writes the judged data set, unless it is there already; nothing else is replaced by it.

    Raises:
        UserError: the output folder holds something else, or see `judged`.
    """
    there = read_manifest(out)
    if there is not None and (there.get("judges") or [{}])[-1].get("inputs") == inputs_of(dataset, asked, judge):
        logger.info("%s is judged and nothing that shapes it has changed: nothing to do", out)
        return
    if there is not None:
        raise UserError(f"output folder {out}: it holds another data set, or other judgements; name another with --out")
    found, configs = judged(dataset, asked, judge)
    known, usage = dataset.manifest.get("judges", []), spent()
    name = f"{EXAM_STAGE}-{len(known) + 1}" if known else EXAM_STAGE
    by_stage = {**(dataset.manifest.get("usage") or {}), **({name: usage} if usage else {})}
    amend(dataset.folder, {"judges": [*known, msgspec.to_builtins(found)], "usage": by_stage}, configs, out=out)
    print("\n".join([*lines(asked, found, configs["default"]), f"data set  {out}"]))


def _entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="the folder of a data set with an exam")
    found = "comparisons on that exam: comparison.json, or its folder"
    add("--comparison", type=Path, nargs="+", required=True, metavar="FILE", help=found)
    add("--judge", choices=("llm", "cross-encoder"), default="llm", help="default: %(default)s")
    add_judge_arguments(parser, "[exam.llm], or [llm]", "known positives and random passages, to measure the judge")
    add("--out", type=Path, metavar="FOLDER", help="the judged data set; default: DATASET-judged")
    given = vars(parser.parse_args())
    main(given.pop("dataset"), Options(**given))


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
