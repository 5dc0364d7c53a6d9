"""A BM25 index with rules that bm25s leaves open: ties by id, no hits without a shared word, `k` clamped."""

from collections.abc import Sequence

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer

from cards.errors import UserError

# Two-letter code -> Snowball stemmer.
STEMMERS = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}
# bm25s's short English list keeps "how", "do" and "you": one chatty passage would be the best hit of most questions.
STOP_WORDS = {**{language: language for language in STEMMERS}, "en": "english_plus"}
K1, B = 0.9, 0.4
"""Anserini's defaults, which BEIR's published BM25 figures rest on (arXiv 2104.08663)."""


class Bm25Index:
    """BM25 in Lucene's form (Kamphuis et al. 2020) over a corpus held in memory.

    Args:
        ids: passage ids, one per text.
        texts: what is indexed.
        language: two-letter code that chooses stemmer and stop words.

    Raises:
        UserError: no stemmer and stop words for this language.
    """

    def __init__(self, ids: Sequence[str], texts: Sequence[str], language: str) -> None:
        check_language(language)
        self._ids = list(ids)
        self._stemmer = Stemmer.Stemmer(STEMMERS[language])
        self._stop_words = STOP_WORDS[language]
        self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
        self._index.index(self._tokens(texts), show_progress=False)
        # Position of each passage in the order of ids: the rule for ties.
        self._id_order = np.argsort(np.argsort(np.array(self._ids, dtype=object)))

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """The best `k` passages of each query as `(id, score)`, best first; fewer where fewer share a word with it."""
        hits: list[list[tuple[str, float]]] = []
        for tokens in self._tokens(queries):
            known = [token for token in tokens if token in self._index.vocab_dict]
            if not known:
                hits.append([])
                continue
            scores = self._index.get_scores(known)
            hits.append([(self._ids[i], float(scores[i])) for i in top_k(scores, self._id_order, k)])
        return hits

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            list(texts), stopwords=self._stop_words, stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return tokens


def check_language(language: str) -> None:
    """Refuses a language that BM25 cannot serve.

    Raises:
        UserError: no stemmer and stop words for it.
    """
    if language not in STEMMERS:
        raise UserError(f"corpus.language {language!r}: BM25 has no stemmer for it; allowed: {', '.join(STEMMERS)}")


def top_k(scores: npt.NDArray[np.float32], tie_order: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """Positions of the `k` highest positive scores, best first, ties in `tie_order`.

    >>> top_k(np.array([0.0, 2.0, 1.0, 2.0]), np.array([0, 3, 2, 1]), 2).tolist()
    [3, 1]
    """
    positions = np.flatnonzero(scores > 0)
    if len(positions) > k:
        threshold = np.partition(scores[positions], -k)[-k]
        positions = positions[scores[positions] >= threshold]
    order = np.lexsort((tie_order[positions], -scores[positions]))
    return positions[order][:k]
