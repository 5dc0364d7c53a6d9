"""What a comparison of negatives found, in the card of a data set or a model: a block and two files beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from cards.merging import Card, block, blocks, parse_card
from cards.publish.contribution import contribute
from cards.publish.files import CARD, read_remote
from cards.templates import environment
from foils.hub import RepoType

BLOCK = "comparison"
_FIGURE, _NUMBERS = "comparison/forest.png", "comparison/comparison.json"


class Arm(msgspec.Struct, frozen=True):
    """A line of the card's table: kind of negatives, nDCG@10, its difference to the base, and a verdict in a word."""

    arm: str
    score: float
    difference: str
    interval: str
    word: str


class Comparison(NamedTuple):
    """What a card says of a comparison.

    Attributes:
        name: of the comparison.
        summary: a few sentences.
        rows: the untouched base first.
        beside_none: whether the verdicts are beside `none`, else beside the base.
        figure: the forest plot as PNG; `alt` and `caption` are it in words.
        meaning: what the intervals mean.
        dataset: name and revision of what was trained on.
        numbers: `comparison.json`.
    """

    name: str
    summary: Sequence[str]
    rows: Sequence[Arm]
    beside_none: bool
    figure: bytes
    alt: str
    caption: str
    meaning: str
    dataset: str
    numbers: bytes

    def files(self, card: str, this: str | None = None) -> dict[str, bytes]:
        """The files that put it into a repository or folder: path -> content.

        Args:
            card: its README; may be empty.
            this: what a model is in the comparison, in words.
        """
        values = {name: value for name, value in self._asdict().items() if name not in {"figure", "numbers"}}
        text = environment.get_template("comparison.md").render(**values, this=this, figure=_FIGURE, numbers=_NUMBERS)
        return {
            CARD: with_block(card, block(BLOCK, text)).encode(),
            _FIGURE: self.figure,
            _NUMBERS: self.numbers,
        }


def with_block(card: str, content: str) -> str:
    """A card with its comparison replaced, or added at the end."""
    parsed = parse_card(card) if card else Card({"tags": ["foils"]}, "")
    known = blocks(parsed.text).get(BLOCK)
    text = parsed.text.replace(known, content) if known else f"{parsed.text.rstrip()}\n\n{content}\n"
    return parsed._replace(text=text).render()


def carried(card: str, folder: Path) -> str:
    """A card that was made anew, with the comparison of the folder's card."""
    known = _block_of(folder)
    return with_block(card, known) if known else card


def publish_told(folder: Path, repo_id: str, kind: RepoType) -> None:
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
        return {CARD: with_block(read_remote(repo_id, kind, head, CARD) or "", known).encode(), **beside}

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
