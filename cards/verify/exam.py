"""Whether training rows keep clear of the exam that their data set holds."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cards.verify.artefact import Artefact
from cards.verify.links import require
from foils.texts import is_quote, normalised, passage_text


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
    names = ("default", "default/own")[: len(sides)]
    for name, side in zip(names, sides, strict=True):
        judged = artefact.rows(name)
        asked = judged["query-id"].filter(pc.is_in(judged["query-id"], value_set=queries["_id"])).unique()
        require(len(asked) == side.queries, f"{name} judges {len(asked)} queries; manifest.json says {side.queries}")
    _check_judgements(artefact, names, set(members["corpus-id"].to_pylist()))
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


def _check_judgements(artefact: Artefact, names: Sequence[str], members: set[str]) -> None:
    """Each judgement is of the exam's own passages, or a judge's; what a judge called relevant has its quote.

    Raises:
        BrokenError: names the first one that is not so.
    """
    judges, corpus = artefact.manifest().judges, artefact.rows("corpus")
    said = artefact.rows("judgements").to_pylist() if judges else []
    found = [row for row in said if row["of"] == "pool" and row["score"] is not None]
    stated = {tuple(row.values()) for name in names for row in artefact.rows(name).to_pylist()}
    graded = {(row["query-id"], row["corpus-id"], row["score"]) for row in found}
    asked = set(artefact.rows("queries")["_id"].to_pylist())  # people's queries without an answer are not among them
    lacking = sorted(passage for query, passage, _ in graded - stated if query in asked)
    _none(lacking, "a verdict on {} is not in default")
    strays = sorted(passage for _, passage, _ in stated - graded if passage not in members)
    _none(strays, "a judgement is of {}, which is not among the exam's groups and was not judged")
    counts = (len(graded), sum(score for *_, score in graded))
    same = counts == (sum(judge.pairs for judge in judges), sum(judge.relevant for judge in judges))
    require(same, f"judges found {counts[1]} of {counts[0]} pairs relevant, and manifest.json says otherwise")
    quoted = {(row["corpus-id"], row["quote"]) for row in said if row["score"] == 1 and row["quote"]}
    of_quotes = corpus.filter(pc.is_in(corpus["_id"], value_set=pa.array([name for name, _ in quoted], pa.string())))
    texts = {row["_id"]: passage_text(row["title"], row["text"]) for row in of_quotes.to_pylist()}
    false = sorted(quote for passage, quote in quoted if not is_quote(quote, texts.get(passage, "")))
    _none(false, "judgements: {} is not in the passage that it is quoted from")


def _those_in(texts: pa.ChunkedArray, known: set[str]) -> list[str]:
    return [text for text in texts.unique().to_pylist() if normalised(text) in known]


def _none(found: pa.ChunkedArray | list[str], words: str) -> None:
    """Breaks the link by the first of what was found.

    Raises:
        BrokenError: something was found.
    """
    first = next(iter(found), None)
    require(first is None, words.format(repr(str(first))))
