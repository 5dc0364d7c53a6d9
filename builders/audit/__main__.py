"""Audits a data set: how many of its chosen negatives answer their query after all, per kind, with an interval.

    python -m builders.audit DATASET --judge cross-encoder --model DIR [--qrels FILE ...]
    python -m builders.audit DATASET --judge llm --recipe RECIPE.toml [--set llm.model=...] [--qrels FILE ...]
    python -m builders.audit DATASET --qrels FILE ...
    python -m builders.audit DATASET --export sample.csv
    python -m builders.audit DATASET --import sample.csv [--qrels FILE ...]

Judgements that the user has (--qrels) are a judge of their own, or measure another one. --export writes the sample for
a person, who fills in the column `relevant`; --import takes the filled file. The same
--sample and --seed give the same pairs to every judge. The result goes into the data set's manifest and card.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.audit import exchange, judges
from builders.audit.false_negatives import audit, draw, sampled_pairs
from builders.audit.judges import STORE, add_judge_arguments, asking, check_judge
from builders.dataset.folder import amend, read_complete
from builders.dataset.read import DataSet
from builders.llm.client import identified
from builders.recipe import BuildRecipe
from cards.templates import section
from foils.errors import UserError, run_entry
from foils.recipe import load_recipe

logger = logging.getLogger(__name__)


class Options(Struct, frozen=True):
    """What the command line says; `_entry` explains each option."""

    judge: str | None = None
    model: str | None = None
    recipe: Path | None = None
    overrides: Sequence[str] = ()
    store: Path = STORE
    qrels: Sequence[Path] = ()
    export_to: Path | None = None
    import_from: Path | None = None
    sample: int = 100
    seed: int = 42


def main(folder: Path, options: Options) -> dict[str, Any] | None:
    """Audits a data set, prints the card's section and stores the result in its manifest.

    Returns:
        The result; None where the sample was only exported.

    Raises:
        UserError: the options contradict each other, or data set, judge or files are not as they must be.
    """
    _check(options)
    dataset = DataSet(folder)
    if options.export_to is not None:
        pairs = sampled_pairs(draw(dataset, options.seed), options.sample)
        exchange.export(dataset, pairs, options.export_to, options.seed)
        logger.info("%s: %d pairs to judge; fill in the column relevant", options.export_to, pairs.num_rows)
        return None
    result = _judged(dataset, options)
    print(section("dataset_audit.md", audit={"false_negatives": {result["judge"]: result}}))
    known = read_complete(folder).get("audit", {})
    by_judge = {**known.get("false_negatives", {}), result["judge"]: result}
    amend(folder, {"audit": {**known, "false_negatives": dict(sorted(by_judge.items()))}})
    return result


def _judged(dataset: DataSet, options: Options) -> dict[str, Any]:
    sample, seed = options.sample, options.seed
    truth = judges.Truth(_files(options.qrels), dataset.written()) if options.qrels else None
    if options.judge == "llm" and options.recipe is not None:
        recipe = load_recipe(options.recipe, options.overrides, BuildRecipe).config
        with asking(recipe.llm, options.store) as session:  # its other tables are not used
            judge = judges.llm(dataset, identified(recipe.llm), session.run, seed)
            return audit(dataset, judge, truth, sample=sample, seed=seed)
    if options.model is not None:
        judge = judges.cross_encoder(dataset, options.model)
    elif options.import_from is not None:
        judge = exchange.person(options.import_from, sampled_pairs(draw(dataset, seed), sample))
    elif truth is not None:
        judge = judges.qrels(truth)
    return audit(dataset, judge, truth, sample=sample, seed=seed)


def _check(options: Options) -> None:
    if not (options.judge or options.qrels or options.export_to or options.import_from):
        raise UserError("no judge is named; wanted --judge cross-encoder, --judge llm, --qrels, --export or --import")
    check_judge(options.judge, options.model, options.recipe, options.sample)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The judgements' files; of a folder in BEIR's layout, all its splits."""
    files = []
    for path in paths:
        inside = path / "qrels" if (path / "qrels").is_dir() else path
        found = sorted(inside.glob("*.tsv")) if inside.is_dir() else [path]
        if not found:
            raise UserError(f"--qrels {path}: no *.tsv in it; wanted files in BEIR's form, or a folder of them")
        files += found
    return files


def _entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a data set that builders.build wrote")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--judge", choices=("cross-encoder", "llm"), help="a model that judges")
    way.add_argument(
        "--export", type=Path, metavar="FILE", dest="export_to", help="write the sample for a person, as .csv"
    )
    way.add_argument("--import", type=Path, metavar="FILE", dest="import_from", help="read the filled sample")
    add_judge_arguments(parser, "[llm]", "pairs per kind")
    parser.add_argument("--qrels", type=Path, nargs="+", default=[], metavar="FILE", help="judgements that you have")
    given = vars(parser.parse_args())
    main(given.pop("dataset"), Options(**given))


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
