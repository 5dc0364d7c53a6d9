"""What a comparison of negatives found, in the card of a data set or a model: a block and two files beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cards.merging import Card, block, blocks, parse_card, with_block
from cards.publish.commits import contribute
from cards.publish.files import CARD, read_remote
from cards.templates import environment
from foils.hub import RepoType

BLOCK = "comparison"
_FIGURE, _NUMBERS = "comparison/forest.png", "comparison/comparison.json"


class Content(NamedTuple):
    """What a card says of a comparison.

    Attributes:
        values: of the template `comparison.md`; the untouched base is the first of its rows.
        figure: the forest plot as PNG.
        numbers: `comparison.json`.
    """

    values: Mapping[str, Any]
    figure: bytes
    numbers: bytes

    def files(self, card: str, this: str | None = None) -> dict[str, bytes]:
        """The files that put it into a repository or folder: path -> content.

        Args:
            card: its README; may be empty.
            this: what a model is in the comparison, in words.
        """
        template = environment.get_template("comparison.md")
        text = template.render(**self.values, this=this, figure=_FIGURE, numbers=_NUMBERS)
        return {CARD: with_comparison(card, block(BLOCK, text)).encode(), _FIGURE: self.figure, _NUMBERS: self.numbers}


def with_comparison(card: str, content: str) -> str:
    """A card with a comparison's block in place of the one that it has, or at its end."""
    parsed = parse_card(card) if card else Card({"tags": ["foils"]}, "")
    return parsed._replace(text=with_block(parsed.text, BLOCK, content)).render()


def carried(card: str, folder: Path) -> str:
    """A card that was made anew, with the comparison of the folder's card."""
    known = _block_of(folder)
    return with_comparison(card, known) if known else card


def publish_comparison(folder: Path, repo_id: str, kind: RepoType) -> None:
    """Puts the comparison of a folder's card, if it has one, into the card of its repository.

    It is a commit of its own, behind the version's: versions hold what was built, not what was found out since.

    Raises:
        UserError: the Hub refuses.
    """
    known = _block_of(folder)
    if known is None:
        return
    beside = {path: (folder / path).read_bytes() for path in (_FIGURE, _NUMBERS)}

    def made(head: str) -> dict[str, bytes]:
        return {CARD: with_comparison(read_remote(repo_id, kind, head, CARD) or "", known).encode(), **beside}

    contribute(repo_id, kind, "comparison", "What a comparison of its negatives found", made)


def _block_of(folder: Path) -> str | None:
    """The block of a folder's card; None where it has none, or what it shows is not there."""
    file = folder / CARD
    if not file.exists() or not all((folder / path).is_file() for path in (_FIGURE, _NUMBERS)):
        return None
    return blocks(file.read_text("utf-8")).get(BLOCK)


def without_block(card: str) -> str:
    """A card without its comparison."""
    known = blocks(card).get(BLOCK)
    return card.replace(known, "") if known else card
