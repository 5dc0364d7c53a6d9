"""The guard's report, as the manifest holds it."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builders.leakage.found import Found

VERSION = 2
"""1 also had a MinHash test, and one threshold of n-grams for texts of all lengths."""


def summary(found: Found) -> dict[str, Any]:
    """The manifest's `leakage`, and what the card is rendered from.

    Keys: `version`: of the tests; `policy`, `passages`; `tests`: those that ran, with their thresholds; `ngram`: words
    in a run; `model`: of the embedding test; `sets`: name, revision, queries and passages of each; `counts`: for each
    set and sort of training text the texts compared, those found by each test and by `any`; `dropped`: queries and
    passages; `training_datasets`: the sets that the data is not zero-shot for.
    """
    return {
        "version": VERSION,
        "policy": found.config.policy,
        "passages": found.config.passages,
        "tests": _tests(found),
        "ngram": found.config.ngram,
        "model": found.config.model,
        "sets": [
            {
                "name": each.name,
                "revision": each.revision,
                "queries": each.queries.num_rows,
                "passages": each.passages.num_rows,
            }
            for each in found.sets
        ],
        "counts": counts(found),
        "dropped": {"queries": len(found.queries_to_drop), "passages": len(found.passages_to_drop)},
        "training_datasets": found.training_datasets,
    }


def counts(found: Found) -> list[dict[str, Any]]:
    """How many training texts of each sort stand in each set, by test."""
    rows = []
    for each in found.sets:
        of_set = found.hits.filter(pc.equal(found.hits["evaluation-set"], each.name))
        for what, total in found.totals.items():
            hits = of_set.filter(pc.equal(of_set["what"], what))
            by_test = {test: _texts(hits.filter(pc.equal(hits["test"], test))) for test in _tests(found)}
            any_test = _texts(hits)
            share = any_test / total if total else 0.0
            rows.append(
                {"set": each.name, "what": what, "texts": total, **by_test, "any": any_test, "share": round(share, 6)}
            )
    return rows


def _tests(found: Found) -> dict[str, float | str]:
    config = found.config
    tests: dict[str, float | str] = {"exact": 1.0, "ngram": config.ngram_share}
    return tests if config.model is None else {**tests, "embedding": config.cosine}


def _texts(hits: pa.Table) -> int:
    return len(hits["id"].unique())
