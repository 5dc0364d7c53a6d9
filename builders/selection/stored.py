"""What selection reads, from a build that has just mined it or from a data set's folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.audit.pairs import keys, without
from builders.dataset.folder import read_config
from builders.mining import Candidates
from builders.passages import Passages
from builders.queries import TABLE
from builders.recipe import BuildRecipe
from builders.selection.config import Wanted
from builders.selection.frame import Inputs


def inputs_from(
    queries: pa.Table, found: Candidates, qrels: pa.Table | None = None, kept_out: pa.Array | None = None
) -> Inputs:
    """Returns what a build has just mined.

    Args:
        queries: `queries.TABLE`.
        found: candidates, scores and passages.
        qrels: all known positives; without them, each query's own alone.
        kept_out: ids of passages that may be no negative.
    """
    known = own_positives(queries) if qrels is None else own_first(queries, qrels)
    candidates = {kind: mined.candidates for kind, mined in found.mined.items()}
    corpus_size = len(found.passages) - found.generated.num_rows
    inputs = Inputs(queries, known, candidates, found.scores, found.passages, corpus_size)
    return inputs if kept_out is None else inputs._replace(kept_out=kept_out)


def stored_inputs(folder: Path, manifest: dict[str, Any]) -> Inputs:
    """Returns what a data set's folder holds; judgements that relabelling had added are taken back."""
    corpus = read_config(folder, manifest, "corpus")
    generated = read_config(folder, manifest, "generated")
    qrels = read_config(folder, manifest, "train-qrels")
    fates = read_config(folder, manifest, "fates")
    added = fates.filter(pc.equal(fates["fate"], "relabelled-as-positive")).select(["query-id", "corpus-id"])
    qrels = without(qrels, added)
    drops = read_config(folder, manifest, "drops") or schema.DROPS.empty_table()
    return Inputs(
        queries=with_positives(read_config(folder, manifest, "train-queries"), qrels),
        qrels=qrels,
        candidates=_named(folder, manifest, "candidates-"),
        scores=_named(folder, manifest, "scores-"),
        passages=Passages(corpus).and_generated(generated),
        corpus_size=corpus.num_rows,
        kept_out=pc.unique(drops.filter(pc.starts_with(drops["reason"], "passage-in-"))["id"]),
    )


def wanted_by(config: BuildRecipe) -> Wanted:
    """Returns what a recipe wants selected."""
    negatives = config.negatives
    rules, shares, variants = config.selection, negatives.shares, negatives.variants
    return Wanted(negatives.kinds, negatives.per_query, config.seed, rules, shares, variants)


def own_positives(queries: pa.Table) -> pa.Table:
    """Returns each query's own positive as `schema.QRELS`."""
    scores = pa.array(np.ones(queries.num_rows), pa.int32())
    return pa.table([queries["_id"], queries["corpus-id"], scores], schema=schema.QRELS)


def with_positives(queries: pa.Table, qrels: pa.Table) -> pa.Table:
    """Returns `queries.TABLE`; a query's own positive is the first that the judgements name."""
    first = qrels.group_by("query-id", use_threads=False).aggregate([("corpus-id", "first")])
    places = pc.index_in(queries["_id"], value_set=first["query-id"])
    return pa.table([queries["_id"], queries["text"], first["corpus-id_first"].take(places)], schema=TABLE)


def own_first(queries: pa.Table, qrels: pa.Table) -> pa.Table:
    """Puts judgements into the data set's order: own positives before all others."""
    own = own_positives(queries)
    is_own = pc.is_in(keys(qrels), value_set=keys(own))
    return pa.concat_tables([qrels.filter(is_own), without(qrels, own)])


def _named(folder: Path, manifest: dict[str, Any], prefix: str) -> dict[str, pa.Table]:
    found = [name for name in manifest["configs"] if name.startswith(prefix)]
    return {name.removeprefix(prefix): read_config(folder, manifest, name) for name in found}
