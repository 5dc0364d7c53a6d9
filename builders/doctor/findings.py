"""What the endpoint doctor tells: findings, what it advises, and how both are printed within 100 columns."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from builders.recipe import BuildRecipe

Status = Literal["ok", "warning", "failed", "not tried"]
WIDTH = 100
NAME_WIDTH, STATUS_WIDTH = 15, 11
LONGEST_QUOTE = 90


class Advice(Struct, frozen=True):
    """What to change, and why.

    Attributes:
        why: the reason; without a key, the whole advice.
        key: a recipe's key, such as `llm.server`; None for what a recipe cannot set.
        value: what the key should be.
    """

    why: str
    key: str | None = None
    value: Any = None

    def __str__(self) -> str:
        return self.why if self.key is None else f"{self.key} = {as_toml(self.value)}: {self.why}"


class Finding(Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: what was checked.
        status: `failed` if a build would fail because of it; `not tried` if another row is the reason.
        found: what was seen; may have several lines.
        advice: what to change.
    """

    name: str
    status: Status
    found: str
    advice: tuple[Advice, ...] = ()


def not_tried(name: str, why: str) -> Finding:
    """The row of a check that could not be made."""
    return Finding(name, "not tried", why)


def row(finding: Finding) -> str:
    """A finding as a row of the table, its advice below.

    >>> print(row(Finding("usage", "warning", "not told", (Advice("set it", "llm.x", "y"),))))
    usage          warning    not told
                              -> llm.x = "y": set it
    """
    indent = NAME_WIDTH + STATUS_WIDTH
    lines: list[str] = []
    for text in finding.found.splitlines():
        lines += _wrapped(text, "")
    for advice in finding.advice:
        lines += _wrapped(f"-> {advice}", "   ")
    head = f"{finding.name:<{NAME_WIDTH}}{finding.status:<{STATUS_WIDTH}}{lines[0] if lines else ''}".rstrip()
    return "\n".join([head, *(" " * indent + line for line in lines[1:])])


def snippet(findings: Iterable[Finding], recipe: BuildRecipe) -> str:
    """The advised settings that differ from the recipe's, as TOML; empty if there are none. The first word counts."""
    tables: dict[str, dict[str, Any]] = {}
    for advice in (advice for finding in findings for advice in finding.advice):
        if advice.key is None or advice.value == _setting(recipe, advice.key):
            continue
        table, _, key = advice.key.rpartition(".")
        tables.setdefault(table, {}).setdefault(key, advice.value)
    return "\n\n".join(f"[{table}]\n{_assignments(values)}" for table, values in tables.items())


def _assignments(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{key} = {as_toml(value)}" for key, value in values.items())


def as_toml(value: Any) -> str:
    """A text, number, boolean or list of them as TOML, on one line; control characters are escaped."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def quoted(text: str) -> str:
    r"""What a server wrote, shortened, on one line and without what would move a terminal's cursor.

    >>> quoted("one\ntwo\x1b[2J")
    '"one two?[2J"'
    """
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return f'"{line}"' if len(line) <= LONGEST_QUOTE else f'"{line[:LONGEST_QUOTE].rstrip()}..."'


def _setting(recipe: BuildRecipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        names = {field.encode_name: field.name for field in msgspec.structs.fields(value)}
        value = getattr(value, names[part])
    return value


def _wrapped(text: str, indent: str) -> list[str]:
    width = WIDTH - NAME_WIDTH - STATUS_WIDTH
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
