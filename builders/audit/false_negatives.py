"""The false-negative rate of each kind: a seeded sample of its chosen negatives is judged; the rate has an interval.

Beside it stands how far the judge can be trusted: how many of the known positives it recognises, how many passages that
answer nothing it rejects, and, where the user has judgements, the true rate over all rows and the judge's agreement.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct

from builders.audit.intervals import DIGITS, LEVEL, Rate, difference, rogan_gladen, wilson
from builders.audit.judges import Judge, Truth, Verdicts, own_positives
from builders.audit.pairs import distinct, keys, shuffled
from builders.dataset.read import PAIRS, DataSet
from builders.hashing import keyed_hash
from foils.errors import UserError

CONTROL = "random"
"""The kind that others are compared with, unless another is named."""


class AuditConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What is drawn.

    Attributes:
        sample: pairs per kind, known positives, and pairs that should be rejected.
        seed: of the random order.
        reference: the kind that the others' rates are compared with; by default `random`, where there is one.
    """

    sample: Annotated[int, Meta(ge=1)] = 100
    seed: int = 42
    reference: str | None = None


class Drawn(NamedTuple):
    """The pairs of one kind.

    Attributes:
        all: its chosen pairs, in their random order.
        sample: the first of them, which are judged.
    """

    all: pa.Table
    sample: pa.Table


def draw(dataset: DataSet, config: AuditConfig) -> dict[str, Drawn]:
    """Kind -> its pairs and their sample.

    Raises:
        UserError: no kind has any negatives, or the reference is not one of them.
    """
    drawn = {}
    for kind, pairs in dataset.chosen().items():
        ordered = shuffled(pairs, kind, config.seed)
        drawn[kind] = Drawn(ordered, ordered.slice(0, config.sample))
    if not drawn:
        raise UserError(f"data set {dataset.folder}: no candidate became a negative, so there is nothing to audit")
    if config.reference is not None and config.reference not in drawn:
        raise UserError(f"--reference {config.reference}: no kind of this data set; it has {', '.join(drawn)}")
    return drawn


def sampled_pairs(drawn: Mapping[str, Drawn]) -> pa.Table:
    """The samples of all kinds as `PAIRS`, each pair once: what a judge is asked about."""
    return distinct([kind.sample for kind in drawn.values()])


def audit(dataset: DataSet, judge: Judge, config: AuditConfig, truth: Truth | None = None) -> dict[str, Any]:
    """Judges a sample of each kind.

    Args:
        dataset: whose negatives.
        judge: who says which are relevant.
        config: sizes and seed.
        truth: judgements that the user has; the judge is measured against them.

    Returns:
        A JSON value, as the manifest keeps it under `audit.false_negatives.<judge>`.

    Raises:
        UserError: the data set has no negatives, or the judge cannot judge.
    """
    drawn = draw(dataset, config)
    measured_by = None if judge.name == "qrels" else truth
    checks = _checks(dataset, drawn, judge, config, measured_by)
    everything = distinct([sampled_pairs(drawn), *checks.values()])
    found = _Found(keys(everything), judge.verdicts(everything))
    sensitivity = found.rate(checks["positives"]) if "positives" in checks else None
    rates = {kind: found.rate(pairs.sample) for kind, pairs in drawn.items()}
    reference = config.reference or (CONTROL if CONTROL in drawn and len(drawn) > 1 else None)
    kinds = {}
    for kind, pairs in drawn.items():
        rejects = checks.get(f"rejects {kind}")
        specificity = None if rejects is None else found.rate(rejects, counted=0)
        base = None if reference in {None, kind} else rates[str(reference)]
        kinds[kind] = {
            **_counts(pairs, rates[kind]),
            "true": None if truth is None else _true_share(truth.of(pairs.all)),
            "accuracy": None if measured_by is None else _plain(_accuracy(pairs.sample, found, measured_by)),
            "specificity": _plain(specificity),
            "corrected": _plain(rogan_gladen(rates[kind], sensitivity, specificity)),
            "difference": _plain(difference(rates[kind], base)),
        }
    return {
        "judge": judge.name,
        "model": judge.model,
        "rule": judge.rule,
        "sample": config.sample,
        "seed": config.seed,
        "level": LEVEL,
        "sensitivity": _plain(sensitivity),
        "random_rejected": _plain(found.rate(checks["random"], counted=0)) if "random" in checks else None,
        "qrels": None if truth is None else truth.sources,
        "reference": reference,
        "kinds": kinds,
    }


class _Found:
    """Verdicts by pair."""

    def __init__(self, ids: pa.Array, verdicts: Verdicts) -> None:
        self._ids = ids
        self._verdicts = verdicts

    def of(self, pairs: pa.Table) -> Verdicts:
        places: npt.NDArray[np.int64] = pc.index_in(keys(pairs), value_set=self._ids).to_numpy()
        return self._verdicts[places]

    def rate(self, pairs: pa.Table, counted: float = 1) -> Rate:
        """Of the judged ones among pairs, the share with the verdict that is counted."""
        verdicts = self.of(pairs)
        return wilson(int((verdicts == counted).sum()), int((~np.isnan(verdicts)).sum()))


def _counts(pairs: Drawn, rate: Rate) -> dict[str, Any]:
    """How many pairs of a kind there are, were drawn and have no verdict, and the rate of the others."""
    return {
        "pairs": pairs.all.num_rows,
        "sampled": pairs.sample.num_rows,
        "unjudged": pairs.sample.num_rows - rate.judged,
        "whole": rate.judged == pairs.all.num_rows,
        **msgspec.to_builtins(rate),
    }


def _true_share(right: Verdicts) -> dict[str, Any]:
    """The relevant share of all pairs whose query the truth covers; exact, so it has no interval."""
    known, relevant = int((~np.isnan(right)).sum()), int((right == 1).sum())
    return {"known": known, "relevant": relevant, "rate": round(relevant / known, DIGITS) if known else None}


def _accuracy(pairs: pa.Table, found: _Found, truth: Truth) -> Rate:
    """How often verdicts and truth agree where there are both."""
    verdicts, right = found.of(pairs), truth.of(pairs)
    comparable = ~np.isnan(verdicts) & ~np.isnan(right)
    return wilson(int((verdicts == right)[comparable].sum()), int(comparable.sum()))


def _checks(
    dataset: DataSet, drawn: Mapping[str, Drawn], judge: Judge, config: AuditConfig, truth: Truth | None
) -> dict[str, pa.Table]:
    """Pairs beside the samples that show how often the judge errs; none where it cannot judge more pairs.

    `positives` are known to be relevant. With judgements, `rejects <kind>` are chosen negatives outside the sample that
    are known not to be: as hard as those of the sample, and independent of it. Without, `random` are random passages,
    which almost any judge rejects.
    """
    if not judge.can_judge_more:
        return {}
    queries = pc.unique(pa.chunked_array([chunk for kind in drawn.values() for chunk in kind.all["query-id"].chunks]))
    positives = _known_positives(dataset, drawn, queries, judge, truth)
    checks = {"positives": shuffled(positives, "positives", config.seed).slice(0, config.sample)}
    if truth is None:
        passages = dataset.random_passages(config.sample, config.seed)
        drawn_queries = sorted(queries.to_pylist(), key=lambda query: keyed_hash(config.seed, "audit", "query", query))
        size = min(len(passages), len(drawn_queries))
        random = pa.table([pa.array(drawn_queries[:size]), pa.array(passages[:size])], schema=PAIRS)
        checks["random"] = _without(random, keys(dataset.positives(queries)))
    else:
        for kind, pairs in drawn.items():
            others = pairs.all.slice(config.sample)
            known = pa.array(truth.of(others) == 0, pa.bool_())
            checks[f"rejects {kind}"] = others.filter(known).slice(0, config.sample)
    return checks


def _known_positives(
    dataset: DataSet, drawn: Mapping[str, Drawn], queries: pa.Array, judge: Judge, truth: Truth | None
) -> pa.Table:
    """Pairs known to be relevant: those that the user's judgements name, otherwise the data set's own positives.

    Queries may be written from their own positive, which makes it easy to recognise; so it is left out where there are
    judgements, as are the sample's pairs. A judge that measures by it is asked about other ones alone in any case.
    """
    known = dataset.positives(queries)
    positives, own = known.select(PAIRS.names), keys(own_positives(known))
    if truth is not None:
        asked = truth.relevant.filter(pc.is_in(truth.relevant["query-id"], value_set=queries))
        held = dataset.passages(asked["corpus-id"]).positions(asked["corpus-id"]) >= 0
        others = _without(distinct([positives, asked.filter(pa.array(held, pa.bool_()))]), own)
        positives = _without(others, keys(sampled_pairs(drawn)))
    return _without(positives, own) if judge.own_positive_is_yardstick else positives


def _without(pairs: pa.Table, unwanted: pa.Array) -> pa.Table:
    return pairs.filter(pc.invert(pc.is_in(keys(pairs), value_set=unwanted)))


def _plain(figures: Struct | None) -> dict[str, Any] | None:
    return None if figures is None else dict(msgspec.to_builtins(figures))
