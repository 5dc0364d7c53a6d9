"""How a data set's queries differ from those that people typed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builders.realism.gaps import length_gap, lengths
from builders.realism.separability import by_words, joined, telling_words
from foils.beir import texts
from foils.errors import UserError
from foils.tables import form_of, read


def read_log(path: Path, where: str) -> list[str]:
    """Reads the queries of a log, each once: a text file with a query a line, or a file with a column `text`.

    Args:
        path: the file.
        where: opens errors.

    Raises:
        UserError: the file is missing, malformed or empty.
    """
    if form_of(path):
        rows, remedy = read([path], ["text"], where.partition(" ")[0]), "wanted queries under text"
        lines = [
            text or "" for each in texts(rows, ["text"], ["text"], where, remedy, False) for text in each.values[0]
        ]
    else:
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise UserError(f"{where}: cannot be read ({reason}); wanted UTF-8 text, a query a line") from None
    queries = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not queries:
        raise UserError(f"{where}: holds no query; wanted UTF-8 text, a query a line")
    return queries


def distance(queries: Sequence[tuple[str, str]], log: Sequence[str], seed: int) -> dict[str, Any]:
    """Compares queries, each with its passage's id, with those of a log: words that separate them, and lengths."""
    sides = joined(queries, [(query, f"log {query}") for query in log])
    return {
        "sampled": len(log),
        "words": lengths(log),
        "auc": by_words(sides, seed),
        "telling": telling_words(sides),
        "length_gap": length_gap([query for query, _ in queries], log),
    }
