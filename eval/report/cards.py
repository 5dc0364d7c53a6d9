"""What a comparison found, into the cards of the data set and of the models that it is about."""

import logging
from pathlib import Path

from cards import comparison as card
from cards.publish.contribution import contribute
from cards.publish.files import CARD, read_remote, write_files
from eval.report.figures import forests
from eval.report.files import for_cards
from eval.report.wording import compared_with, difference_cells, summary, what_intervals_mean, words_beside
from foils.comparison import BASE, Comparison
from foils.errors import UserError
from foils.metrics import MAIN_METRIC

logger = logging.getLogger(__name__)


def for_card(comparison: Comparison) -> card.Comparison:
    """What a card says of a comparison."""
    whole, against = comparison.tables[-1], compared_with(comparison)
    shown = forests(comparison)[-1]
    words = words_beside(whole, against)
    revision = f" at {comparison.revision}" if comparison.revision else ""
    return card.Comparison(
        name=comparison.name,
        summary=summary(comparison),
        rows=[
            card.Arm(row.arm, row.metrics[MAIN_METRIC], difference, interval, words.get(row.arm, ""))
            for row in whole.rows
            for difference, interval, _ in [difference_cells(row)]
        ],
        beside_none=against != BASE,
        figure=shown.drawn["png"],
        alt=shown.alt,
        caption=shown.caption,
        meaning=what_intervals_mean(comparison),
        dataset=f"`{comparison.dataset}`{revision}",
        numbers=for_cards(comparison),
    )


def write_card(folder: Path, content: card.Comparison, this: str | None = None) -> None:
    """Puts a comparison into the card of a folder, if it has one; `this` says what the folder's model is in it."""
    if not (folder / CARD).exists():
        return
    try:
        write_files(folder, content.files((folder / CARD).read_text("utf-8"), this))
    except (OSError, UnicodeDecodeError, UserError) as error:
        logger.warning("%s: its card stays as it is (%s); the report has all that it would say", folder, error)


def push_card(repo_id: str, content: card.Comparison) -> None:
    """Puts a comparison into the card of a data set's repository, in one commit.

    Raises:
        UserError: the Hub refuses.
    """

    def made(head: str) -> dict[str, bytes]:
        return content.files(read_remote(repo_id, "dataset", head, CARD) or "")

    contribute(repo_id, "dataset", "comparison", f"Comparison {content.name}", made)
