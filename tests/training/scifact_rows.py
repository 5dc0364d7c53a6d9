"""Real rows: claims of scifact with an abstract that answers them and two that do not."""

import csv
import json

from datasets import Dataset

from tests.conftest import SHARED

SCIFACT = SHARED / "collections" / "scifact"


def _texts(name):
    lines = map(json.loads, (SCIFACT / name).read_text("utf-8").splitlines())
    return {line["_id"]: f"{line.get('title', '')} {line['text']}".strip() for line in lines}


def scifact_rows(number, shift=1):
    """Rows `query`, `positive`, `negative_1`, `negative_2`; another `shift` is another kind of negatives."""
    queries, corpus = _texts("queries.jsonl"), _texts("corpus.jsonl")
    with (SCIFACT / "qrels" / "train.tsv").open() as file:
        pairs = [(line["query-id"], line["corpus-id"]) for line in csv.DictReader(file, delimiter="\t")][:number]
    others = [text for _id, text in corpus.items() if _id not in {answer for _, answer in pairs}]
    return Dataset.from_dict(
        {
            "query": [queries[query] for query, _ in pairs],
            "positive": [corpus[answer] for _, answer in pairs],
            "negative_1": [others[number * shift + row] for row in range(number)],
            "negative_2": [others[-1 - number * shift - row] for row in range(number)],
        }
    )
