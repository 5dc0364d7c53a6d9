"""How well a classifier separates generated texts from the corpus's passages.

    sides = joined(zip(texts, groups), zip(passages, groups))
    by_words(sides, seed), telling_words(sides)

The area under the ROC curve is the probability that the classifier scores a generated text higher than a passage: 0.5 =
it cannot separate them, 1 = it always can. It is measured on texts that the classifier was not trained on: what belongs
together (a query's negatives and its own passage, and equal texts) is in one fold.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from builders.hashing import keyed_hash
from foils.languages import is_unspaced
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


class Sides(NamedTuple):
    """Texts of two sides, each once.

    Attributes:
        texts: of both.
        is_ours: `(n,)` bool; true for generated ones.
        groups: `(n,)` int64, from 0, after groups that share a text have been joined.
    """

    texts: list[str]
    is_ours: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]

    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Returns which texts are of each side, `(n,)`."""
        return {"generated": self.is_ours, "corpus": ~self.is_ours}


def joined(ours: Iterable[tuple[str, str]], theirs: Iterable[tuple[str, str]]) -> Sides:
    """Two sides for a classifier. Repeated texts of a side count once; groups that share a text become one.

    Args:
        ours: generated texts, each with its group: texts of one group are never in two folds.
        theirs: passages with their groups.

    >>> joined([("a", "q1"), ("A", "q2")], [("a", "q3"), ("b", "q4")]).groups.tolist()
    [0, 0, 1]
    """
    from scipy.cluster.hierarchy import DisjointSet

    kept: dict[tuple[str, bool], tuple[str, str]] = {}
    first_of: dict[str, str] = {}  # text -> its first group
    same = DisjointSet()
    for is_one_of_ours, side in ((True, ours), (False, theirs)):
        for text, group in side:
            folded = normalised(text)
            same.add(group)
            same.merge(group, first_of.setdefault(folded, group))
            kept.setdefault((folded, is_one_of_ours), (text, group))
    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(same[group], len(numbers)) for _, group in kept.values()]
    is_ours = np.array([each for _, each in kept], bool)
    return Sides([text for text, _ in kept.values()], is_ours, np.array(groups, np.int64))


def by_words(sides: Sides, seed: int) -> dict[str, float] | None:
    """The area that a logistic regression on TF-IDF of words reaches; None where there are too few texts.

    It is measured within folds, over all their pairs.

    Returns:
        `auc`, and `low` and `high`, its 95 % interval by resampling groups within folds, widened by `WIDER`.
    """
    found = out_of_folds(sides, seed)
    if found is None:
        return None
    scores, tests = found
    dice = np.random.default_rng(keyed_hash(seed, "resamples"))
    wins, pairs = np.zeros(1 + RESAMPLES), np.zeros(1 + RESAMPLES)
    for test in tests:
        _, groups = np.unique(sides.groups[test], return_inverse=True)
        number = int(groups.max()) + 1
        drawn = dice.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
        weights = np.vstack([np.ones(len(test)), drawn[:, groups]])
        won, compared = _won(scores[test], sides.is_ours[test], weights)
        wins, pairs = wins + won, pairs + compared
    areas = wins / pairs
    low, high = np.clip(areas[0] + WIDER * (np.percentile(areas[1:], [2.5, 97.5]) - areas[0]), 0, 1)
    return {name: round(float(value), 4) for name, value in (("auc", areas[0]), ("low", low), ("high", high))}


def out_of_folds(sides: Sides, seed: int) -> tuple[Floats, list[npt.NDArray[np.int64]]] | None:
    """The scores of a logistic regression on TF-IDF of words, and its folds; None where there are too few texts.

    Returns:
        `(n,)` how surely each text is a generated one by a classifier that was trained on the other folds, and the
        places of each fold.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    if sides.groups.max(initial=-1) + 1 < FEWEST_GROUPS:
        return None
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(sides.texts, groups=sides.groups))
    tests = [test for _, test in folds]
    if not all(0 < sides.is_ours[test].sum() < len(test) for test in tests):
        return None
    model = make_pipeline(_vectorizer(sides.texts), _classifier())
    try:
        scores = cross_val_predict(model, sides.texts, sides.is_ours, cv=folds, method="decision_function")
    except ValueError:  # no word stands in two texts
        return None
    return scores, tests


def telling_words(sides: Sides) -> dict[str, list[dict[str, Any]]]:
    """The words that speak most for `generated` and for `corpus`, up to ten each, most telling first.

    Each is a dict of `word` and the share of each side's texts that have it, as `generated` and `corpus`.
    """
    words = _vectorizer(sides.texts)
    learnt = words.fit_transform(sides.texts)
    weights = _classifier().fit(learnt, sides.is_ours).coef_[0]
    vocabulary = words.get_feature_names_out()
    shares = {name: np.asarray((learnt[mask] > 0).mean(axis=0)).ravel() for name, mask in sides.masks().items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, toward in (("generated", weights), ("corpus", -weights)):
        order = np.lexsort((vocabulary, -toward))
        places = [place for place in order if toward[place] > 0 and shares[name][place] >= _TELLING_SHARE][:TELLING]
        found[name] = [
            {"word": str(vocabulary[place]), **{side: round(float(has[place]), 3) for side, has in shares.items()}}
            for place in places
        ]
    return found


def _vectorizer(texts: Sequence[str]) -> Any:
    """Counts words, or pairs of characters where no spaces stand between words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    settings: dict[str, Any] = {"sublinear_tf": True, "min_df": 2, "max_features": _MOST_WORDS}
    if 2 * sum(map(is_unspaced, texts)) > len(texts):
        return TfidfVectorizer(analyzer="char", ngram_range=(2, 2), **settings)
    return TfidfVectorizer(token_pattern=_TOKEN, **settings)


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="liblinear", class_weight="balanced", C=10.0, max_iter=1000, random_state=0)


def _won(scores: Floats, is_ours: npt.NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Pairs of the two sides in which ours has the higher score (ties: half), and all pairs, by weights `(b, n)`."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan))
    weights, ours = weights[:, order], is_ours[order]
    mine = np.add.reduceat(weights * ours, starts, axis=1)
    others = np.add.reduceat(weights * ~ours, starts, axis=1)
    below = others.cumsum(axis=1) - others / 2
    return (mine * below).sum(axis=1), mine.sum(axis=1) * others.sum(axis=1)
