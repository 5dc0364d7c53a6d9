"""Cards of which a part is generated and the rest belongs to people.

Generated text stands between `<!-- foils:NAME begin -->` and `<!-- foils:NAME end -->`; whatever stands outside stays
as it is, and so do YAML keys that we do not write.
"""

import re
from collections.abc import Collection
from typing import Any, NamedTuple

import yaml

from foils.errors import UserError

_FRONT = re.compile(r"\A---\s*\n(.*?)\n?---[ \t]*(?:\n|\Z)", re.DOTALL)
_BLOCK = re.compile(r"<!-- foils:(?P<name>[a-z]+) begin -->.*?<!-- foils:(?P=name) end -->", re.DOTALL)


class Card(NamedTuple):
    """A README: its YAML, and the text below."""

    data: dict[str, Any]
    text: str

    def render(self) -> str:
        """The README's content."""
        front = yaml.safe_dump(self.data, sort_keys=False, allow_unicode=True, width=1000) if self.data else ""
        return f"---\n{front}---\n\n{self.text.strip()}\n"


def parse_card(content: str) -> Card:
    """A README's YAML and text.

    Raises:
        UserError: the YAML cannot be read.
    """
    content = content.replace("\r\n", "\n").removeprefix("\ufeff")
    front = _FRONT.match(content)
    if front is None:
        return Card({}, content)
    try:
        data = yaml.safe_load(front[1]) or {}
    except yaml.YAMLError as error:
        line = str(error).splitlines()[0]
        raise UserError(f"card: its YAML cannot be read ({line}); correct the README's front matter by hand") from None
    if not isinstance(data, dict):
        raise UserError("card: its YAML is not a mapping of keys to values; correct the README's front matter by hand")
    return Card(data, content[front.end() :])


def block(name: str, text: str) -> str:
    r"""Generated text between its marks.

    >>> block("use", "How to load.")
    '<!-- foils:use begin -->\nHow to load.\n<!-- foils:use end -->'
    """
    return f"<!-- foils:{name} begin -->\n{text.strip()}\n<!-- foils:{name} end -->"


def blocks(text: str) -> dict[str, str]:
    """Name -> block, marks included, in their order."""
    return {found["name"]: found[0] for found in _BLOCK.finditer(text)}


def with_block(text: str, name: str, generated: str, heading: str = "") -> str:
    """A card's text with a generated block in place of the one of its name, or at its end under a heading."""
    known = blocks(text).get(name)
    return text.replace(known, generated) if known else f"{text.rstrip()}\n\n{heading}{generated}\n"


def merge_cards(new: str, existing: str, keep: Collection[str] = ()) -> str:
    """A freshly generated card in place of the generated parts of an existing one.

    Args:
        new: the card as generated.
        existing: the README that people may have edited; may be empty.
        keep: names of blocks that stay as they are in the existing card, where it has them.

    Returns:
        Merging a second time changes nothing.

    Raises:
        UserError: the existing card's YAML cannot be read.
    """
    ours, theirs = parse_card(new), parse_card(existing)
    data = {**ours.data, **{key: value for key, value in theirs.data.items() if key not in ours.data}}
    known = theirs.data.get("tags") or []  # one tag, or several
    tags = [*ours.data.get("tags", ()), *(known if isinstance(known, list) else [known])]
    if tags:
        data["tags"] = list(dict.fromkeys(tags))
    if not theirs.text.strip():
        return Card(data, ours.text).render()
    generated, text, missing = blocks(ours.text), theirs.text, []
    for name, content in generated.items():
        if name not in blocks(text):
            missing.append(content)
        elif name not in keep:
            text = text.replace(blocks(text)[name], content)
    return Card(data, "\n\n".join([text.strip(), *missing])).render()
