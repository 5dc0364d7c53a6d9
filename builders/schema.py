"""The columns of every configuration in a data set (the contract with training and evaluation)."""

import pyarrow as pa

CORPUS = pa.schema([("_id", pa.string()), ("title", pa.string()), ("text", pa.string())])
QUERIES = pa.schema([("_id", pa.string()), ("text", pa.string())])
QRELS = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string()), ("score", pa.int32())])
CANDIDATES = pa.schema(
    [
        ("query-id", pa.string()),
        ("corpus-id", pa.string()),  # of a corpus passage, or of a generated one (configuration `generated`)
        ("rank", pa.int32()),  # from 1
        ("score", pa.float64()),  # the miner's own; higher is harder; null where it gives none
    ]
)
SCORES = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string()), ("score", pa.float64())])
"""Every pair that a scorer has scored, positives among them: configuration `scores-<scorer>`."""
FATES = pa.schema(
    [
        ("kind", pa.string()),
        ("query-id", pa.string()),
        ("corpus-id", pa.string()),
        ("fate", pa.string()),  # `negative_N`, the column that it became, or why it became none
    ]
)
EXAM_GROUPS = pa.schema([("corpus-id", pa.string()), ("group", pa.string())])
"""Passages that are the exam's alone; a group is called by its smallest id."""
JUDGEMENTS = pa.schema(
    [
        *[(name, pa.string()) for name in ("query-id", "corpus-id")],
        ("of", pa.string()),  # `pool`, or `positive` and `random`, which the judge's errors are known from
        ("score", pa.int32()),  # null where the judge gave no verdict
        ("quote", pa.string()),  # what an LLM quoted as the answer; not in the passage where it counts as 0
    ]
)
GENERATED = pa.schema(
    [
        *[(name, pa.string()) for name in ("_id", "text", "query-id", "call-key")],
        ("broken", pa.string()),  # the query's requirement that the text does not meet; null where none was asked for
    ]
)
DROPS = pa.schema([("stage", pa.string()), ("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])

SPLITS = {"corpus": "corpus", "queries": "queries", "default": "test"}
"""Splits as MTEB names them, so that the data set loads as a retrieval task; all other configurations: `train`."""


def training(negatives: int) -> pa.Schema:
    """Columns of a training-ready configuration: `query`, `positive`, `negative_1` ... in the trainer's order."""
    names = ["query", "positive", *(f"negative_{number}" for number in range(1, negatives + 1))]
    return pa.schema([(name, pa.string()) for name in names])


def split_of(config: str) -> str:
    """The split of a configuration; of one that has several, `CONFIGURATION/SPLIT` names a further one.

    >>> split_of("default"), split_of("default/own"), split_of("bm25")
    ('test', 'own', 'train')
    """
    return config.partition("/")[2] or SPLITS.get(config, "train")
