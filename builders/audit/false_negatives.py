"""The false-negative rate of each kind: a seeded sample of its chosen negatives is judged; the rate has an interval.

Beside it stands how far the judge can be trusted: how many of the known positives it recognises. Where the user has
judgements, there is also how many passages that answer nothing it rejects, the true rate over all rows, and the judge's
agreement.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders.audit.intervals import DIGITS, LEVEL, Rate, difference, rogan_gladen, wilson
from builders.audit.judges import Judge, Truth, Verdicts
from builders.audit.pairs import distinct, ids, own_positives, shuffled, without
from builders.dataset.read import PAIRS, DataSet
from foils.errors import UserError

Report = dict[str, Any]
CONTROL = "random"
"""The kind that others are compared with, where the data set has it."""


def draw(dataset: DataSet, seed: int) -> dict[str, pa.Table]:
    """Kind -> its chosen pairs in a random order; the first of them are the sample.

    Raises:
        UserError: no kind has any negatives.
    """
    drawn = {kind: shuffled(pairs, kind, seed) for kind, pairs in dataset.chosen().items()}
    if not drawn:
        raise UserError(f"data set {dataset.folder}: no candidate became a negative, so there is nothing to audit")
    return drawn


def sampled_pairs(drawn: Mapping[str, pa.Table], sample: int) -> pa.Table:
    """The samples of all kinds as `PAIRS`, each pair once: what a judge is asked about."""
    return distinct(pairs.slice(0, sample) for pairs in drawn.values())


def audit(dataset: DataSet, judge: Judge, truth: Truth | None = None, *, sample: int = 100, seed: int = 42) -> Report:
    """Judges a sample of each kind.

    Args:
        dataset: whose negatives.
        judge: who says which are relevant.
        truth: judgements that the user has; the judge is measured against them.
        sample: pairs per kind, known positives, and pairs that should be rejected.
        seed: of the random order.

    Returns:
        A JSON value, as the manifest keeps it under `audit.false_negatives.<judge>`.

    Raises:
        UserError: the data set has no negatives, or the judge cannot judge.
    """
    drawn = draw(dataset, seed)
    measured_by = truth if judge.name != "qrels" else None
    positives, others = _checks(dataset, drawn, judge, measured_by, sample, seed)
    asked = distinct([sampled_pairs(drawn, sample), positives, *others.values()])
    verdict_of = dict(zip(ids(asked), judge.verdicts(asked), strict=True))
    verdicts = {kind: _known(verdict_of, pairs.slice(0, sample)) for kind, pairs in drawn.items()}
    rates = {kind: _rate(found) for kind, found in verdicts.items()}
    sensitivity = _rate(_known(verdict_of, positives)) if judge.can_judge_more else None
    rejects = {kind: _rate(_known(verdict_of, pairs), counted=0) for kind, pairs in others.items()}
    reference = CONTROL if CONTROL in drawn and len(drawn) > 1 else None
    kinds = {
        kind: _of_kind(pairs, verdicts[kind], truth, measured_by)
        | {
            "specificity": rejects.get(kind),
            "corrected": rogan_gladen(rates[kind], sensitivity, rejects.get(kind)),
            "difference": None if reference in {None, kind} else difference(rates[kind], rates[CONTROL]),
        }
        for kind, pairs in drawn.items()
    }
    report: Report = msgspec.to_builtins(
        {
            "judge": judge.name,
            "model": judge.model,
            "rule": judge.rule,
            "sample": sample,
            "seed": seed,
            "level": LEVEL,
            "sensitivity": sensitivity,
            "qrels": None if truth is None else truth.sources,
            "reference": reference,
            "kinds": kinds,
        }
    )
    return report


def _of_kind(pairs: pa.Table, found: Verdicts, truth: Truth | None, measured_by: Truth | None) -> dict[str, Any]:
    """A kind's figures: its pairs, the judge's rate in the sample, and what the user's judgements say beside it."""
    rate = _rate(found)
    return {
        "pairs": pairs.num_rows,
        "sampled": len(found),
        "unjudged": len(found) - rate.judged,
        "whole": rate.judged == pairs.num_rows,
        **msgspec.structs.asdict(rate),
        "true": None if truth is None else _true_share(truth.of(pairs)),
        "accuracy": None if measured_by is None else _agreement(found, measured_by.of(pairs.slice(0, len(found)))),
    }


def _known(verdict_of: Mapping[tuple[str, str], float], pairs: pa.Table) -> Verdicts:
    return np.array([verdict_of[pair] for pair in ids(pairs)], np.float64)


def _rate(verdicts: Verdicts, counted: float = 1) -> Rate:
    """Of the pairs with a verdict, the share that has the one that is counted."""
    return wilson(int((verdicts == counted).sum()), int((~np.isnan(verdicts)).sum()))


def _true_share(verdicts: Verdicts) -> dict[str, Any]:
    """The relevant share of all pairs whose query the truth covers; exact, so it has no interval."""
    known, relevant = int((~np.isnan(verdicts)).sum()), int((verdicts == 1).sum())
    return {"known": known, "relevant": relevant, "rate": round(relevant / known, DIGITS) if known else None}


def _agreement(verdicts: Verdicts, truth: Verdicts) -> Rate:
    """How often verdicts and truth agree where there are both."""
    comparable = ~np.isnan(verdicts) & ~np.isnan(truth)
    return wilson(int((verdicts == truth)[comparable].sum()), int(comparable.sum()))


def _checks(
    dataset: DataSet, drawn: Mapping[str, pa.Table], judge: Judge, truth: Truth | None, sample: int, seed: int
) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Known positives, and kind -> pairs that are not relevant: they show how often the judge errs.

    The known positives are those that the user's judgements name, otherwise the data set's own positives.
    Queries may be written from their own positive, which makes it easy to recognise; so it is left out where there are
    judgements, as are the sample's pairs. A judge that measures by it is asked about other ones alone in any case.

    With judgements there are for each kind chosen negatives outside the sample that are known not to be relevant: as
    hard as those of the sample, and independent of it.
    """
    if not judge.can_judge_more:
        return PAIRS.empty_table(), {}
    queries = pc.unique(pa.concat_tables(drawn.values())["query-id"])
    known = dataset.positives(queries)
    positives, own = known.select(PAIRS.names), own_positives(known)
    others = {}
    if truth is not None:
        listed = truth.relevant.filter(pc.is_in(truth.relevant["query-id"], value_set=queries))
        is_here = dataset.passages(listed["corpus-id"]).positions(listed["corpus-id"]) >= 0
        positives = without(distinct([positives, listed.filter(pa.array(is_here))]), sampled_pairs(drawn, sample))
        for kind, pairs in drawn.items():
            rest = pairs.slice(sample)
            others[kind] = rest.filter(pa.array(truth.of(rest) == 0)).slice(0, sample)
    if truth is not None or judge.own_positive_is_yardstick:
        positives = without(positives, own)
    return shuffled(positives, "positives", seed).slice(0, sample), others
