"""Tables, durations, lists and beginnings of texts, as people read them in a terminal or in an error."""

from collections.abc import Collection, Sequence

SHOWN = 60
"""Characters of a text that is shown as an example."""
_MINUTE_S, _HOUR_S = 60, 3600


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lines in which the cells of each column stand below each other, without spaces at the end.

    Args:
        rows: all with the same number of cells, the header first.
        left: columns that are flush left; the others are flush right.

    >>> table([["", "nDCG@10"], ["base", "0.5"]])
    ['      nDCG@10', 'base      0.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shortened(text: str, most: int = SHOWN) -> str:
    """The beginning of a text, on one line of at most `most` characters.

    >>> shortened("one two  three", 8), shortened("one  two")
    ('one two…', 'one two')
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def duration(seconds: float, digits: int = 0) -> str:
    """Seconds, from two minutes on in minutes, and from two hours on in hours.

    Args:
        seconds: from 0.
        digits: decimals of a figure in seconds.

    >>> duration(90), duration(7.25, 1), duration(600), duration(7200)
    ('90 s', '7.2 s', '10 min', '2.0 h')
    """
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.{digits}f} s"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds < 2 * _HOUR_S else f"{seconds / _HOUR_S:.1f} h"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2)
    ('a, b, c', 'a, b and 1 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def three_digits(amount: float) -> str:
    """An amount to three digits, the whole number where there are more.

    >>> three_digits(1512.3), three_digits(15.123), three_digits(0.01512)
    ('1,512', '15.1', '0.0151')
    """
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"  # noqa: PLR2004
