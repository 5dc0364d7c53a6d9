"""The audit as a person reads it in a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from foils.words import table


def lines_of(result: Mapping[str, Any]) -> Iterator[str]:
    """The result of `examine`, line by line."""
    for kind, told in result["generated"].items():
        yield f"{kind}: {told['texts']:,} written, {told['sampled']:,} sampled, {told['passages']:,} passages"
        yield f"  repeated {_share(told['exact_duplicates'])}, near duplicates {_share(told['near_duplicates'])}"
        if told["sampled"]:
            yield from _compared(told)
    yield from _queries(result["queries"])
    yield from _hardness(result["hardness"])


def area(told: Mapping[str, float] | None) -> str:
    """An area under the curve with its interval.

    >>> area({"auc": 0.9, "low": 0.85, "high": 0.95}), area(None)
    ('0.900 (0.850 to 0.950)', 'too few texts')
    """
    return f"{told['auc']:.3f} ({told['low']:.3f} to {told['high']:.3f})" if told else "too few texts"


def _compared(told: Mapping[str, Any]) -> Iterator[str]:
    yield "  AUC of telling them from the corpus (0.5 = cannot be told):"
    variants = [("without_titles", "titles left out"), ("with_titles", "titles and all")]
    known = [(name, words) for name, words in variants if told[name]]
    features = list(told["without_titles"])
    rows = [["", *(words for _, words in known)]]
    rows += [[f"by {feature}", *(area(told[name][feature]) for name, _ in known)] for feature in features]
    yield from (f"    {line}" for line in table(rows))
    for side, words in told["telling"].items():
        yield f"  telling of {side}: " + ", ".join(word["word"] for word in words)
    rows = [["", "words (quartiles)", "not in the corpus", "types per word"]]
    for side in ("generated", "corpus"):
        of = told[side]
        unknown = "" if of["unknown_words"] is None else _share(of["unknown_words"])
        rows.append([side, _quartiles(of["words"]), unknown, f"{of['type_token']:.3f}"])
    yield from (f"  {line}" for line in table(rows))
    yield f"  lengths apart (Kolmogorov-Smirnov): {told['length_gap']:.2f}"


def _queries(told: Mapping[str, Any]) -> Iterator[str]:
    shares = told["overlap"]
    yield f"queries: {told['sampled']:,} sampled; content words that stand in their passage: " + " / ".join(
        _share(shares[name]) for name in ("q1", "median", "q3")
    )
    log = told["log"]
    sides = [("of this data set", told), *([("log", log)] if log else [])]
    rows = [["", "words (quartiles)"], *([name, _quartiles(of["words"])] for name, of in sides)]
    yield from (f"  {line}" for line in table(rows))
    if log:
        for feature, figures in log["auc"].items():
            yield f"  AUC of telling them from the log by {feature}: {area(figures)}"
        yield f"  lengths apart from the log's (Kolmogorov-Smirnov): {log['length_gap']:.2f}"
        for side, words in log["telling"].items():
            yield f"  telling of {side}: " + ", ".join(word["word"] for word in words)


def _hardness(told: Mapping[str, Any]) -> Iterator[str]:
    if "why_not" in told:
        yield f"hardness: not measured: {told['why_not']}"
        return
    yield f"hardness: the positive's score less the negative's, by {told['scorer']}"
    rows = [["", "scored", "5 %", "25 %", "median", "75 %", "95 %", "above the positive"]]
    for kind, of in told["kinds"].items():
        points = [f"{point:.3f}" for point in of.get("quantiles", {}).values()] or [""] * 5
        harder = _share(of["harder"]) if "harder" in of else ""
        rows.append([kind, f"{of['scored']:,} of {of['negatives']:,}", *points, harder])
    yield from (f"  {line}" for line in table(rows))


def _share(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _quartiles(words: Mapping[str, int]) -> str:
    return f"{words['q1']} / {words['median']} / {words['q3']}"
