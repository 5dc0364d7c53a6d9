"""What a comparison found, into the cards of the data set and of the models that it is about."""

import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from cards.comparison import Arm, Comparison
from cards.publish.contribution import contribute
from cards.publish.files import CARD, read_remote, write_files
from eval.pictures import Picture, forests
from eval.recipe import CompareRecipe
from eval.report import difference_cells, what_intervals_mean
from eval.runs import BASE, CONTROL, Plan, Run
from eval.summary import summary
from eval.tables import Row, Table
from foils.errors import UserError
from foils.metrics import MAIN_METRIC

logger = logging.getLogger(__name__)


def comparison(config: CompareRecipe, base: str, tables: Sequence[Table], numbers: bytes) -> Comparison:
    """What a card tells.

    Args:
        config: the comparison.
        base: the model that all arms start from, or several.
        tables: by task; the last speaks for all.
        numbers: the content of `comparison.json`.
    """
    whole = tables[-1]
    against = CONTROL if CONTROL in config.arms else BASE
    shown: Picture = forests(config, tables)[-1]
    words = {found.first: found.word for found in whole.verdicts if found.second == against}
    return Comparison(
        name=config.name,
        summary=summary(config, base, tables),
        rows=[_line(row, words.get(row.arm, "")) for row in whole.rows],
        beside_none=against == CONTROL,
        figure=shown.drawn["png"],
        alt=shown.alt,
        caption=shown.caption,
        meaning=what_intervals_mean(len(config.seeds), config.margin),
        dataset=f"`{config.dataset}`{f' at {config.revision}' if config.revision else ''}",
        numbers=numbers,
    )


def _line(row: Row, word: str) -> Arm:
    difference, interval, _ = difference_cells(row)
    return Arm(row.arm, row.metrics[MAIN_METRIC], difference, interval, word)


def write_model_cards(plan: Plan, told: Comparison) -> None:
    """Tells it in the folders of all models."""
    for run in (Run(arm, seed) for arm, seed in product(plan.config.arms, plan.config.seeds)):
        _write(Path(plan.model(run)), told, this=f"arm `{run.arm}`, seed {run.seed},")


def write_dataset_card(dataset: str, told: Comparison) -> None:
    """Tells it in the data set's folder, if it is one with a card."""
    if (Path(dataset) / CARD).exists():
        _write(Path(dataset), told)


def _write(folder: Path, told: Comparison, this: str | None = None) -> None:
    try:
        write_files(folder, told.files((folder / CARD).read_text("utf-8"), this))
    except (OSError, UnicodeDecodeError, UserError) as error:
        logger.warning("%s: its card stays as it is (%s); the report has all that it would tell", folder, error)


def push_card(repo_id: str, told: Comparison) -> None:
    """Tells it in the card of a data set's repository, in one commit.

    Raises:
        UserError: the Hub refuses.
    """

    def made(head: str) -> dict[str, bytes]:
        return told.files(read_remote(repo_id, "dataset", head, CARD) or "")

    contribute(repo_id, "dataset", "comparison", f"Comparison {told.name}", made)
