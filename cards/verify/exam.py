"""Whether training rows keep clear of the exam that their data set holds."""

import pyarrow as pa
import pyarrow.compute as pc

from cards.verify.artefact import Artefact
from cards.verify.links import require
from foils.texts import normalised, passage_text


def check_exam(artefact: Artefact) -> str:
    """No training row holds an exam's query, or has a passage of the exam's groups as its positive.

    Raises:
        BrokenError: names the first thing that does.
    """
    manifest = artefact.manifest()
    about = manifest.exam
    if about is None:
        return "it holds none"
    queries, members = artefact.rows("queries"), artefact.rows("exam-groups")
    sides = [about, about.own] if about.own else [about]
    stated = [sum(getattr(side, name) for side in sides) for name in ("queries", "passages")]
    counted = [queries.num_rows, members.num_rows] == stated
    require(counted, f"{queries.num_rows} queries, {members.num_rows} passages, and manifest.json says otherwise")
    for name, side in zip(("default", "default/own"), sides, strict=False):
        judged = artefact.rows(name)
        own = pc.is_in(judged["corpus-id"], value_set=members["corpus-id"])
        require(pc.all(own).as_py(), "a judgement is of a passage that is not among the exam's groups")
        asked = judged["query-id"].filter(pc.is_in(judged["query-id"], value_set=queries["_id"])).unique()
        require(len(asked) == side.queries, f"{name} judges {len(asked)} queries; manifest.json says {side.queries}")
    trained = artefact.rows("train-qrels")
    # A query's first is its row's; further ones, such as relabelled negatives, stand in no row.
    first = trained.group_by("query-id", use_threads=False).aggregate([("corpus-id", "first")])["corpus-id_first"]
    _none(first.filter(pc.is_in(first, value_set=members["corpus-id"])), "train-qrels: passage {} is the exam's")
    corpus = artefact.rows("corpus")
    asked_about = corpus.filter(pc.is_in(corpus["_id"], value_set=members["corpus-id"])).to_pylist()
    answers = {
        normalised(text) for row in asked_about for text in (row["text"], passage_text(row["title"], row["text"]))
    }
    texts = set(map(normalised, queries["text"].to_pylist()))
    _none(_those_in(artefact.rows("train-queries")["text"], texts), "train-queries: {} is a query of the exam")
    for kind in manifest.training_configs():
        rows = artefact.rows(kind)
        _none(_those_in(rows["query"], texts), f"{kind}: {{}} is a query of the exam")
        _none(_those_in(rows["positive"], answers), f"{kind}: the positive {{}} is a passage of the exam")
    if not about.as_negatives:
        fates = artefact.rows("fates").filter(pc.starts_with(pc.field("fate"), "negative_"))
        chosen = fates["corpus-id"].filter(pc.is_in(fates["corpus-id"], value_set=members["corpus-id"]))
        _none(chosen, "passage {} is the exam's and a negative, and manifest.json says that none is")
    return f"no training row holds one of its {stated[0]} queries or {stated[1]} passages"


def _those_in(texts: pa.ChunkedArray, known: set[str]) -> list[str]:
    return [text for text in texts.unique().to_pylist() if normalised(text) in known]


def _none(found: pa.ChunkedArray | list[str], words: str) -> None:
    """Breaks the link by the first of what was found.

    Raises:
        BrokenError: something was found.
    """
    first = next(iter(found), None)
    require(first is None, words.format(repr(str(first))))
