"""How well a classifier tells two sides apart: generated texts from the corpus's, or queries from a log's.

    sides = joined(generated, passages)
    by_words(sides, seed), by_embeddings(sides, encode(sides.texts, model), seed)

The area under the ROC curve is the probability that a text of one side is taken for it rather than a text of the other:
0.5 = cannot be found apart, 1 = always. It is measured on texts that the classifier was not trained on: what belongs
together (a query's negatives and its own passage, and equal texts) is in one fold.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from builders.hashing import keyed_hash
from foils.texts import normalised

FOLDS = 5
FEWEST_GROUPS = 20
"""Below this number of groups, nothing is measured."""
RESAMPLES = 1000
WIDER = (1 + FOLDS / (FOLDS - 1)) ** 0.5
"""By what the interval is widened: other samples would also have trained other classifiers, and those of the folds
share texts. The variance is (1/k + 1/(k-1)) / (1/k) as large (Nadeau and Bengio 2003, 10.1023/A:1024068626366)."""
TELLING = 10
_TELLING_SHARE = 0.01  # of the texts of the side that a word speaks for
_MOST_WORDS = 50_000
_TOKEN = r"(?u)\b\w+\b"  # noqa: S105 - one-letter words count

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class Text(NamedTuple):
    """A text and what it belongs to: texts of one group are never on both sides of a fold."""

    text: str
    group: str


class Sides(NamedTuple):
    """Texts of two sides, each once.

    Attributes:
        texts: of both.
        is_ours: `(n,)` bool; true for generated ones.
        groups: `(n,)` int64, from 0, after groups that share a text have been joined.
        names: of the groups.
    """

    texts: list[str]
    is_ours: npt.NDArray[np.bool_]
    groups: Places
    names: list[str]


def joined(ours: Sequence[Text], theirs: Sequence[Text]) -> Sides:
    """Two sides for a classifier. Repeated texts of a side count once; groups that share a text become one.

    >>> joined([Text("a", "q1"), Text("A", "q2")], [Text("a", "q3"), Text("b", "q4")]).groups.tolist()
    [0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    kept: list[tuple[str, bool, int]] = []
    edges: list[tuple[int, int]] = []
    numbers: dict[str, int] = {}
    first_of: dict[str, int] = {}
    seen: set[tuple[str, bool]] = set()
    for is_ours, side in ((True, ours), (False, theirs)):
        for text, group in side:
            number = numbers.setdefault(group, len(numbers))
            folded = normalised(text)
            edges.append((number, first_of.setdefault(folded, number)))
            if (folded, is_ours) not in seen:
                seen.add((folded, is_ours))
                kept.append((text, is_ours, number))
    left, right = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(len(numbers), len(numbers)))
    component = connected_components(graph, directed=False)[1]
    known, groups = np.unique(component[[number for _, _, number in kept]], return_inverse=True)
    names = {component[number]: name for name, number in sorted(numbers.items(), reverse=True)}
    return Sides(
        [text for text, _, _ in kept],
        np.array([is_ours for _, is_ours, _ in kept], bool),
        groups.astype(np.int64),
        [names[number] for number in known],
    )


def by_words(sides: Sides, seed: int) -> dict[str, Any] | None:
    """What a logistic regression on TF-IDF of words reaches; None where there are too few texts.

    Returns:
        `auc`, and `low` and `high`, its 95 % interval by resampling groups, widened by `WIDER`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    def features(train: Places, test: Places) -> tuple[Any, Any]:
        words = TfidfVectorizer(token_pattern=_TOKEN, sublinear_tf=True, min_df=2, max_features=_MOST_WORDS)
        learnt = words.fit_transform([sides.texts[place] for place in train])
        return learnt, words.transform([sides.texts[place] for place in test])

    return _cross_validated(features, sides, seed)


def by_embeddings(sides: Sides, vectors: npt.NDArray[np.float32], seed: int) -> dict[str, Any] | None:
    """What a logistic regression on embeddings `(n, dim)` reaches; as `by_words`."""

    def features(train: Places, test: Places) -> tuple[Any, Any]:
        mean, spread = vectors[train].mean(axis=0), vectors[train].std(axis=0) + 1e-9
        return (vectors[train] - mean) / spread, (vectors[test] - mean) / spread

    return _cross_validated(features, sides, seed)


def encode(texts: Sequence[str], model: str) -> npt.NDArray[np.float32]:
    """Embeddings of texts, `(n, dim)`, of unit length.

    Raises:
        UserError: the model cannot be found, or does not embed texts.
    """
    from foils.loading import load_retriever
    from foils.models import resolve_model

    encoder = load_retriever(resolve_model(model).location)
    vectors = encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=True)
    return np.asarray(vectors, np.float32)


def telling_words(sides: Sides, names: tuple[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The words that speak most for each side, with the share of each side's texts that have them.

    Args:
        sides: whose texts are found apart.
        names: of our side and the other.

    Returns:
        By side, up to ten words each: `word`, and the shares under both names.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=_TOKEN, sublinear_tf=True, min_df=2, max_features=_MOST_WORDS)
    learnt = words.fit_transform(sides.texts)
    weights = _classifier().fit(learnt, sides.is_ours).coef_[0]
    vocabulary = words.get_feature_names_out()
    has = [np.asarray((learnt[side] > 0).mean(axis=0)).ravel() for side in (sides.is_ours, ~sides.is_ours)]
    found: dict[str, list[dict[str, Any]]] = {}
    for name, toward, shares in ((names[0], weights, has[0]), (names[1], -weights, has[1])):
        order = np.lexsort((vocabulary, -toward))
        places = [place for place in order if toward[place] > 0 and shares[place] >= _TELLING_SHARE][:TELLING]
        found[name] = [
            {
                "word": str(vocabulary[place]),
                **{key: round(float(h[place]), 3) for key, h in zip(names, has, strict=True)},
            }
            for place in places
        ]
    return found


def tokens_of(text: str) -> list[str]:
    """The words of a text as the classifier sees them.

    >>> tokens_of("Don't sort it.")
    ['don', 't', 'sort', 'it']
    """
    return re.findall(_TOKEN, text.lower())


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="liblinear", class_weight="balanced", C=10.0, max_iter=1000, random_state=0)


def _cross_validated(
    features: Callable[[Places, Places], tuple[Any, Any]], sides: Sides, seed: int
) -> dict[str, Any] | None:
    """The area within folds, over all their pairs; its interval by resampling groups within folds."""
    if len(sides.names) < FEWEST_GROUPS:
        return None
    random_order = sorted(range(len(sides.names)), key=lambda group: keyed_hash(seed, "fold", sides.names[group]))
    fold_of = np.empty(len(random_order), np.int64)
    fold_of[random_order] = np.arange(len(random_order)) % FOLDS
    folds = fold_of[sides.groups]
    dice = np.random.default_rng(keyed_hash(seed, "resamples"))
    wins, pairs = np.zeros(1 + RESAMPLES), np.zeros(1 + RESAMPLES)
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(np.unique(sides.is_ours[train])) < 2 or len(np.unique(sides.is_ours[test])) < 2:  # noqa: PLR2004 - both sides
            return None
        learnt, unseen = features(train, test)
        scores = _classifier().fit(learnt, sides.is_ours[train]).decision_function(unseen)
        _, groups = np.unique(sides.groups[test], return_inverse=True)
        number = int(groups.max()) + 1
        drawn = dice.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
        weights = np.vstack([np.ones(len(test)), drawn[:, groups]])
        won, compared = _won(scores, sides.is_ours[test], weights)
        wins, pairs = wins + won, pairs + compared
    areas = wins / pairs
    low, high = np.clip(areas[0] + WIDER * (np.percentile(areas[1:], [2.5, 97.5]) - areas[0]), 0, 1)
    return {name: round(float(value), 4) for name, value in (("auc", areas[0]), ("low", low), ("high", high))}


def _won(scores: Floats, is_ours: npt.NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Pairs of the two sides in which ours has the higher score (ties: half), and all pairs, by weights `(b, n)`."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan))
    weights, ours = weights[:, order], is_ours[order]
    mine = np.add.reduceat(weights * ours, starts, axis=1)
    others = np.add.reduceat(weights * ~ours, starts, axis=1)
    below = others.cumsum(axis=1) - others / 2
    return (mine * below).sum(axis=1), mine.sum(axis=1) * others.sum(axis=1)
