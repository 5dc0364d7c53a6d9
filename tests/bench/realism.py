"""Time and memory of the realism and hardness audit, on a made data set.

    python -m tests.bench.realism [--passages 1000000] [--queries 20000] [--depth 50]

The made data set has texts of 60 words of a Zipf-like vocabulary, one written negative a query and `depth` scored
candidates a query. What is printed: the whole audit without embeddings, its parts, and the most memory the process had.
"""

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa

from builders import schema
from builders.dataset.folder import FORMAT, write_config
from builders.negatives.written_checks import WrittenChecks, manner_of
from builders.realism.examine import AuditConfig, examine
from tests.bench.memory import peak_mb

WORDS, LENGTH, BATCH = 50_000, 60, 20_000


def texts(number, lots):
    """So many texts, made a batch at a time."""
    vocabulary = np.array([f"word{place}" for place in range(WORDS)])
    chunks = []
    for start in range(0, number, BATCH):
        rows = min(BATCH, number - start)
        places = np.minimum(lots.zipf(1.3, (rows, LENGTH)), WORDS) - 1
        chunks.append(pa.array([" ".join(row) for row in vocabulary[places]], pa.string()))
    return pa.chunked_array(chunks)


def make(folder, passages, queries, depth):
    """Writes the data set."""
    lots = np.random.default_rng(1)
    ids, query_ids = (
        pa.array([f"{name}{row}" for row in range(rows)]) for name, rows in (("p", passages), ("q", queries))
    )
    own = ids.take(pa.array(lots.choice(passages, queries, replace=False)))
    many = query_ids.take(pa.array(np.repeat(np.arange(queries), depth)))
    candidates = ids.take(pa.array(lots.integers(0, passages, queries * depth)))
    kinds = ("bm25", "dense", "random")
    fates = [
        pa.table(
            [
                [kind] * queries,
                query_ids,
                candidates.take(pa.array(np.arange(queries) * depth + number)),
                ["negative_1"] * queries,
            ],
            schema.FATES,
        )
        for number, kind in enumerate(kinds)
    ]
    everywhere = (pa.chunked_array([many, query_ids]), pa.chunked_array([candidates, own]))
    tables = {
        "corpus": pa.table([ids, pa.array([""] * passages), texts(passages, lots)], schema.CORPUS),
        "queries": pa.table(
            [query_ids, [f"what is known of {name}?" for name in query_ids.to_pylist()]], schema.QUERIES
        ),
        "default": pa.table([query_ids, own, [1] * queries], schema.QRELS),
        "generated": pa.table(
            [[f"q{row}/llm1" for row in range(queries)], texts(queries, lots), query_ids, ["k"] * queries],
            schema.GENERATED,
        ),
        "fates": pa.concat_tables(fates),
        "scores-bm25": pa.table([*everywhere, lots.standard_normal(queries * (depth + 1))], schema.SCORES),
    }
    configs = {}
    for name, table in tables.items():
        files = [file.relative_to(folder).as_posix() for file in write_config(folder, name, table)]
        configs[name] = {
            "split": schema.split_of(name),
            "rows": table.num_rows,
            "columns": table.column_names,
            "files": dict.fromkeys(files, ""),
        }
    manifest = {"format": FORMAT, "language": "en", "settings": {"seed": 1, "queries": {}}, "configs": configs}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tables["corpus"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("passages", 1_000_000), ("queries", 20_000), ("depth", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        corpus = make(Path(place), sizes.passages, sizes.queries, sizes.depth)
        started = perf_counter()
        manner_of(corpus, "en", 1, WrittenChecks(), 128)
        print(f"manner of the corpus: {perf_counter() - started:.1f} s")
        del corpus
        started = perf_counter()
        result, _ = examine(Path(place), AuditConfig())
        print(
            f"audit: {perf_counter() - started:.1f} s, by words {result['generated']['llm']['without_titles']['words']}"
        )
    print(f"most memory: {peak_mb() / 1024:.2f} GB, making included")


if __name__ == "__main__":
    main()
