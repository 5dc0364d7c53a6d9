"""Verdicts in words: better, worse, equivalent within a margin, or undecided, and what would decide it."""

from collections.abc import Mapping

from statsmodels.stats.multitest import multipletests

from eval.statistics.differences import LEVEL, POWER
from foils.comparison import Estimate, Verdict


def verdicts(estimates: Mapping[tuple[str, str], Estimate], margin: float) -> list[Verdict]:
    """Verdicts on a family of pairs: each of the two questions at a level of 5 % over the whole family (Holm).

    Args:
        estimates: (first, second) -> their difference.
        margin: as the estimates were made with.
    """
    if not estimates:
        return []
    different = multipletests([found.p for found in estimates.values()], LEVEL, "holm")[1]
    alike = multipletests([found.p_equivalent for found in estimates.values()], LEVEL, "holm")[1]
    return [
        _verdict(first, second, found, (float(p), float(p_equivalent)), margin)
        for ((first, second), found), p, p_equivalent in zip(estimates.items(), different, alike, strict=True)
    ]


def _verdict(first: str, second: str, found: Estimate, corrected: tuple[float, float], margin: float) -> Verdict:
    p, p_equivalent = corrected
    differs, small = p <= LEVEL, p_equivalent <= LEVEL
    word = ("better" if found.mean > 0 else "worse") if differs else "equivalent" if small else "undecided"
    size = f"{found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    if differs:
        text = f"{first} is {word} than {second} ({size}){f', though by less than {margin:g}' if small else ''}."
    elif small:
        text = f"{first} and {second} are equivalent within {margin:g} ({size})."
    else:
        alone = f"by itself it would count (p {found.p:.2g}), among all pairs it does not; " if found.p <= LEVEL else ""
        text = f"{first} against {second} is undecided ({size}); {alone}{decisive(found, margin)}."
    return Verdict(first, second, found, p, p_equivalent, word, small, text)


def decisive(found: Estimate, margin: float) -> str:
    """What an experiment would need to find a difference of the margin.

    Sizes are for a single pair; a family of several asks for somewhat more.
    """
    if found.smallest <= margin:  # it had the power and still did not decide: chance, or the family's correction
        return f"this experiment could have found {found.smallest:.4f}; more seeds or queries would narrow the interval"
    ways = []
    if found.queries_needed is not None:
        ways.append(f"about {_rounded(found.queries_needed):,} queries in place of {found.queries:,}")
    if found.seeds_needed is not None:
        ways.append(f"about {_rounded(found.seeds_needed):,} seeds in place of {found.seeds}")
    if not ways:
        return f"to find {margin:g} more queries alone do not suffice: it takes more seeds too"
    return f"to find {margin:g} with a power of {POWER:.0%} it takes {' or '.join(ways)}".replace("%", " %")


def _rounded(count: int) -> int:
    """Rounds up to two digits, as estimates of variances are no better.

    >>> _rounded(12345), _rounded(7)
    (13000, 7)
    """
    step = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step if count >= step else count
