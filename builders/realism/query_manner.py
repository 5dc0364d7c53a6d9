"""What queries are like: how much they repeat their passage, how long they are, of what types, how far from a log."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builders.negatives.written_checks import STOP_WORDS
from builders.realism.gaps import length_gap, lengths
from builders.realism.separability import Text, by_embeddings, by_words, encode, joined, telling_words, tokens_of
from foils.errors import UserError

TYPES = ("question", "keywords", "title", "claim")
_OPENERS = {
    "da": "hvad hvem hvor hvordan hvorfor hvornår hvilken hvilket hvilke er kan har",
    "de": "was wer wen wem wo wohin woher wie warum weshalb wieso wann welche welcher welches welchen wieviel womit "
    "wofür ist sind kann können hat darf muss gibt",
    "en": "what who whom whose where when why how which is are was were do does did can could should would will has "
    "have had may",
    "es": "qué quién quiénes dónde cuándo cómo cuál cuáles cuánto cuántos cuánta cuántas es son puede",
    "fr": "que qui quoi quel quelle quels quelles où quand comment pourquoi combien est-ce qu'est-ce",
    "it": "che cosa cos'è chi dove quando come perché quale quali quanto quanti quanta quante è sono può",
    "nl": "wat wie waar wanneer hoe waarom welke welk hoeveel is zijn kan kun mag heeft",
    "no": "hva hvem hvor hvordan hvorfor når hvilken hvilket hvilke er kan har",
    "pt": "que quem onde quando como porque qual quais quanto quantos quanta quantas é são pode",
    "ru": "что кто где куда когда как почему зачем какой какая какое какие сколько можно",
    "sv": "vad vem var hur varför när vilken vilket vilka är kan har",
    "tr": "ne kim nerede nereye nas\u0131l neden niçin niye hangi kaç",
}
_QUESTION_MARKS = ("?", "؟")
_FEW_STOP_WORDS = 0.2
_TITLE_WORDS = 3
_LONGEST = 33  # words; longer queries count as this long in the comparison of lengths


def type_of(query: str, language: str) -> str:
    """The type of a query, by simple rules in this order.

    `question`: ends with a question mark, or begins with a question word or an auxiliary verb of the language.
    `claim`: ends with a full stop or an exclamation mark. `title`: begins with a capital and has three words or more.
    `keywords`: at most a fifth of its words are stop words. Else `claim`: a sentence without its full stop.

    >>> [type_of(text, "en") for text in ("how do owls hunt", "owl hunting mice night", "Owls hunt at night.")]
    ['question', 'keywords', 'claim']
    >>> type_of("The Hunting Methods of Owls", "en"), type_of("owls can turn their heads a lot", "en")
    ('title', 'claim')
    """
    words = query.split()
    if not words:
        return "keywords"
    if query.rstrip("\"'»” ").endswith(_QUESTION_MARKS) or query.startswith("¿"):
        return "question"
    if words[0].casefold().strip(",:") in _OPENERS.get(language, "").split():
        return "question"
    if query.rstrip().endswith((".", "!")):
        return "claim"
    if query[0].isupper() and len(words) >= _TITLE_WORDS:
        return "title"
    listed = STOP_WORDS.get(language, frozenset())
    stop_words = sum(word in listed for word in tokens_of(query))
    return "keywords" if stop_words <= _FEW_STOP_WORDS * len(words) else "claim"


def type_mix(queries: Sequence[str], language: str) -> dict[str, float]:
    """The share of each type.

    >>> type_mix(["how do owls hunt?", "owl prey"], "en")
    {'question': 0.5, 'keywords': 0.5, 'title': 0.0, 'claim': 0.0}
    """
    counts = Counter(type_of(query, language) for query in queries)
    return {name: round(counts[name] / max(len(queries), 1), 4) for name in TYPES}


def overlap(query: str, passage: str, language: str) -> float | None:
    """The share of a query's content words that stand in a passage; None for a query without any.

    >>> overlap("how do owls hunt mice?", "Owls hunt at night.", "en")
    0.6666666666666666
    """
    words = {word for word in tokens_of(query) if word not in STOP_WORDS.get(language, frozenset())}
    return len(words & set(tokens_of(passage))) / len(words) if words else None


def describe(queries: Sequence[str], passages: Sequence[str], language: str) -> dict[str, Any]:
    """Figures on queries and their own passages, paired."""
    shares = [overlap(query, passage, language) for query, passage in zip(queries, passages, strict=True)]
    known = [share for share in shares if share is not None]
    quartiles = np.percentile(known, [25, 50, 75]) if known else np.zeros(3)
    return {
        "sampled": len(queries),
        "overlap": {
            name: round(float(value), 4) for name, value in zip(("q1", "median", "q3"), quartiles, strict=True)
        },
        "words": lengths(queries),
        "types": type_mix(queries, language),
    }


def read_log(path: Path) -> list[str]:
    """The queries of a log: a line each, or a JSON object a line with `text`; repeated ones once.

    Raises:
        UserError: the file is missing, malformed or empty.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--query-log {path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}); wanted a text "
            "file with a query a line, or a .jsonl file with `text`"
        ) from None
    if path.suffix == ".jsonl":
        lines = [_text_of(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    queries = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not queries:
        raise UserError(f"--query-log {path}: it holds no query; wanted a query a line")
    return queries


def distance_to_log(
    queries: Sequence[Text], log: Sequence[str], language: str, seed: int, model: str | None
) -> dict[str, Any]:
    """How far queries are from a log's: what tells them apart, and how lengths and types differ.

    `types_apart` and `lengths_apart` are Jensen-Shannon divergences (Lin 1991) in bits: 0 = the same mix, 1 = apart.
    """
    ours = [query.text for query in queries]
    sides = joined(queries, [Text(query, f"log {query}") for query in log])
    separable = {"words": by_words(sides, seed)}
    if model is not None:
        separable["embeddings"] = by_embeddings(sides, encode(sides.texts, model), seed)
    return {
        "sampled": len(log),
        "words": lengths(log),
        "types": type_mix(log, language),
        "auc": separable,
        "telling": telling_words(sides, ("ours", "log")),
        "length_gap": length_gap(ours, log),
        "lengths_apart": divergence(_length_mix(ours), _length_mix(log)),
        "types_apart": divergence(type_mix(ours, language), type_mix(log, language)),
    }


def divergence(one: Mapping[Any, float], other: Mapping[Any, float]) -> float:
    """The Jensen-Shannon divergence of two mixes, in bits.

    >>> divergence({"a": 1.0}, {"b": 1.0}), divergence({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5})
    (1.0, 0.0)
    """
    names = sorted({*one, *other})
    left, right = (np.array([mix.get(name, 0.0) for name in names]) for mix in (one, other))
    middle = (left + right) / 2
    bits = sum(float((side[side > 0] * np.log2(side[side > 0] / middle[side > 0])).sum()) / 2 for side in (left, right))
    return round(max(bits, 0.0), 4)


def _length_mix(queries: Sequence[str]) -> dict[int, float]:
    counts = Counter(min(len(query.split()), _LONGEST) for query in queries)
    return {words: count / len(queries) for words, count in counts.items()}


def _text_of(path: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError):
        text = None
    if not isinstance(text, str):
        raise UserError(f"--query-log {path}: line {number} is no JSON object with a text under `text`; correct it")
    return text
