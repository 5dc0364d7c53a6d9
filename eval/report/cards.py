"""What a comparison found, into the cards of the data set and of the models that it is about."""

import logging
from pathlib import Path

import msgspec

from cards.comparison import Content
from cards.publish.commits import contribute
from cards.publish.files import CARD, read_remote, write_files
from eval.report.figures import forest
from eval.report.files import encoded
from eval.report.wording import difference_cells, summary, what_intervals_mean, words_beside_base
from foils.comparison import Comparison
from foils.errors import UserError
from foils.metrics import MAIN_METRIC

logger = logging.getLogger(__name__)


def for_card(comparison: Comparison) -> Content:
    """What a card says of a comparison; queries and rows, whose texts are not ours to publish, are left out."""
    whole, shown = comparison.tables[-1], forest(comparison)
    words = words_beside_base(whole)
    values = {
        "name": comparison.name,
        "summary": summary(comparison),
        "rows": [
            (row.arm, row.metrics[MAIN_METRIC], *difference_cells(row)[:2], words.get(row.arm, ""))
            for row in whole.rows
        ],
        "alt": shown.alt,
        "caption": shown.caption,
        "meaning": what_intervals_mean(comparison),
        "dataset": f"`{comparison.dataset}`" + (f" at {comparison.revision}" if comparison.revision else ""),
    }
    published = msgspec.structs.replace(comparison, queries=[], examples={}, rankings={})
    return Content(values, shown.drawn["png"], encoded(published))


def write_card(folder: Path, content: Content, this: str | None = None) -> None:
    """Puts a comparison into the card of a folder, if it has one; `this` says what the folder's model is in it."""
    if not (folder / CARD).exists():
        return
    try:
        write_files(folder, content.files((folder / CARD).read_text("utf-8"), this))
    except (OSError, UnicodeDecodeError, UserError) as error:
        logger.warning("%s: its card stays as it is (%s); the report has all that it would say", folder, error)


def push_card(repo_id: str, content: Content) -> None:
    """Puts a comparison into the card of a data set's repository, in one commit.

    Raises:
        UserError: the Hub refuses.
    """

    def made(head: str) -> dict[str, bytes]:
        return content.files(read_remote(repo_id, "dataset", head, CARD) or "")

    contribute(repo_id, "dataset", "comparison", f"Comparison {content.values['name']}", made)
