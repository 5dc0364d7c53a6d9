"""What the tests of the audit share: small data sets, written as a build would write them."""

import csv

import pyarrow as pa

from builders import schema
from builders.dataset.read import PAIRS
from tests.builders.whole_folders import write_whole


def pairs(*rows):
    return pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=PAIRS)


def a_dataset(folder, passages, queries, positives, chosen, generated=()):
    """Writes a data set.

    Args:
        folder: where to.
        passages: id -> text.
        queries: id -> text.
        positives: (query id, passage id).
        chosen: kind -> (query id, passage id), one or more a query.
        generated: (id, text, query id).
    """
    fates = [(kind, query, passage, "negative_1") for kind, rows in chosen.items() for query, passage in rows]
    # Candidates that did not become negatives are not audited.
    fates += [(kind, query, passage, "is-the-positive") for kind in chosen for query, passage in positives]
    tables = {
        "corpus": _table(schema.CORPUS, [(key, "", text) for key, text in passages.items()]),
        "train-queries": _table(schema.QUERIES, list(queries.items())),
        "train-qrels": _table(schema.QRELS, [(*row, 1) for row in positives]),
        "fates": _table(schema.FATES, fates),
        "generated": _table(schema.GENERATED, [(*row, "key", None) for row in generated]),
    }
    texts = {**passages, **{key: text for key, text, _ in generated}}
    first, shared = dict(reversed(positives)), min(map(len, chosen.values()), default=0)  # all kinds have as many rows
    for kind, rows in chosen.items():
        columns = [
            (queries[query], passages.get(first.get(query), ""), texts[passage]) for query, passage in rows[:shared]
        ]
        tables[kind] = _table(schema.training(1), columns)
    if not shared:  # a card shows rows
        tables["random"] = _table(schema.training(1), [("query", "positive", "negative")])
    return write_whole(folder, tables, chosen)


def write_qrels(file, rows):
    """Judgements in BEIR's form: (query id, passage id, grade)."""
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def numbered(folder, count=300, every=5, kinds=("bm25", "random")):
    """A data set of `count` queries a kind; every fifth negative of bm25 is relevant, and none of random.

    Query n asks for number n; `pN` and `also N` answer it, `other N` does not.
    """
    queries = {f"q{n}": f"who owns house number {n}?" for n in range(count)}
    passages = {f"p{n}": f"House number {n} belongs to family {n * 7}." for n in range(count)}
    passages |= {f"also{n}": f"The owners of house number {n} are family {n * 7}." for n in range(count)}
    passages |= {f"other{n}": f"The roof of house number {n} was mended in May." for n in range(count)}
    positives = [(f"q{n}", f"p{n}") for n in range(count)]
    relevant = [(f"q{n}", f"also{n}") for n in range(count) if n % every == 0]
    hard = relevant + [(f"q{n}", f"other{n}") for n in range(count) if n % every]
    rows = {"bm25": hard, "random": [(f"q{n}", f"other{(n + 1) % count}") for n in range(count)]}
    a_dataset(folder, passages, queries, positives, {kind: rows[kind] for kind in kinds})
    return folder, positives + relevant


def fill(file, judge, change=lambda rows: rows, **form):
    """Fills an export as a person would: `judge(row)` gives what goes into `relevant`; `change` damages the rows."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        row["relevant"] = judge(row)
    rows = change(rows)
    with file.open("w", encoding=form.pop("encoding", "utf-8"), newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), **form)
        writer.writeheader()
        writer.writerows(rows)


def _table(form, rows):
    columns = list(zip(*rows, strict=True)) or [()] * len(form)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, form, strict=True)], schema=form)
