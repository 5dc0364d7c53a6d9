"""What queries are like: how much they repeat their passage, how long they are, how far they are from a log's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builders.negatives.written_checks import stop_words
from builders.realism.gaps import length_gap, lengths
from builders.realism.separability import Text, by_embeddings, by_words, encode, joined, telling_words, tokens_of
from foils.beir import jsonl, stated
from foils.errors import UserError


def overlap(query: str, passage: str, language: str) -> float | None:
    """The share of a query's content words that stand in a passage; None for a query without any.

    >>> overlap("how do owls hunt mice?", "Owls hunt at night.", "en")
    0.6666666666666666
    """
    words = {word for word in tokens_of(query) if word not in stop_words().get(language, frozenset())}
    return len(words & set(tokens_of(passage))) / len(words) if words else None


def describe(queries: Sequence[str], passages: Sequence[str], language: str) -> dict[str, Any]:
    """Figures on queries and their own passages, paired."""
    shares = [overlap(query, passage, language) for query, passage in zip(queries, passages, strict=True)]
    known = [share for share in shares if share is not None]
    quartiles = [round(float(value), 4) for value in (np.percentile(known, [25, 50, 75]) if known else np.zeros(3))]
    return {
        "sampled": len(queries),
        "overlap": dict(zip(("q1", "median", "q3"), quartiles, strict=True)),
        "words": lengths(queries),
    }


def read_log(path: Path) -> list[str]:
    """The queries of a log: a line each, or a JSON object a line with `text`; repeated ones once.

    Raises:
        UserError: the file is missing, malformed or empty.
    """
    if path.suffix == ".jsonl":
        where = f"--query-log {path}"
        lines = [stated(row, "text", f"{where}: line {number}") for number, row, _ in jsonl(path, "--query-log")]
    else:
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"--query-log {path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}); wanted a "
                "text file with a query a line, or a .jsonl file with `text`"
            ) from None
    queries = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not queries:
        raise UserError(f"--query-log {path}: it holds no query; wanted a query a line")
    return queries


def distance_to_log(queries: Sequence[Text], log: Sequence[str], seed: int, model: str | None) -> dict[str, Any]:
    """How far queries are from a log's: what tells them apart, and how their lengths differ."""
    sides = joined(queries, [Text(query, f"log {query}") for query in log])
    separable = {"words": by_words(sides, seed)}
    if model is not None:
        separable["embeddings"] = by_embeddings(sides, encode(sides.texts, model), seed)
    return {
        "sampled": len(log),
        "words": lengths(log),
        "auc": separable,
        "telling": telling_words(sides, ("ours", "log")),
        "length_gap": length_gap([query.text for query in queries], log),
    }
