"""The data set's card: YAML that `load_dataset` reads, and text that a person can judge the rows by."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from huggingface_hub import DatasetCardData

from cards.templates import environment

SAMPLE_ROWS = 5
CELL_CHARS = 160
FIXED_CONFIGS = {
    "default": "relevance judgements: each query's own passage",
    "corpus": "all passages",
    "queries": "the accepted queries",
    "generated": "passages that the LLM wrote as negatives",
    "drops": "every row that was thrown out, with stage, reason and detail",
}
ARMS = {
    "llm": "hard negatives written by the LLM from the query's text alone",
    "bm25": "hard negatives that BM25 ranks highest",
    "cross-encoder": "hard negatives that a cross-encoder ranks highest among BM25's",
    "random": "passages drawn by lot (control)",
}


def render_card(manifest: Mapping[str, Any], configs: Mapping[str, pa.Table]) -> str:
    """The README of a data set folder.

    Args:
        manifest: as `builders.publish` writes it.
        configs: configuration -> rows, for sizes, drop reasons and samples.
    """
    arms = [name for name in configs if "query" in configs[name].column_names]
    return environment.get_template("dataset.md").render(
        yaml=_metadata(manifest, configs).to_yaml(),
        manifest=manifest,
        arms=arms,
        about={name: _about(name) for name in configs},
        sizes={name: table.num_rows for name, table in configs.items()},
        drops=_drop_counts(configs["drops"]),
        samples=_samples(arms, configs),
        cell=partial(cell, limit=CELL_CHARS),
    )


def cell(text: str, limit: int) -> str:
    r"""A text for a Markdown table: one line, shortened, nothing that would be read as markup.

    >>> cell("a | b" + chr(10) + "<i>", 20)
    'a \\| b &lt;i&gt;'
    """
    line = " ".join(text.split())
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*")):
        line = line.replace(mark, escaped)
    return line


def _metadata(manifest: Mapping[str, Any], configs: Mapping[str, pa.Table]) -> DatasetCardData:
    listed = [
        {
            "config_name": name,
            "data_files": [{"split": about["split"], "path": sorted(about["files"])}],
            **({"default": True} if name == "default" else {}),
        }
        for name, about in manifest["configs"].items()
    ]
    rows = configs["corpus"].num_rows
    return DatasetCardData(
        license=manifest["license"],
        language=[manifest["language"]],
        pretty_name=manifest["name"],
        task_categories=["text-retrieval", "sentence-similarity"],
        tags=["foils", "hard-negatives", "sentence-transformers", "synthetic"],
        size_categories=[next(name for limit, name in _SIZES if rows < limit)],
        configs=listed,
    )


_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (float("inf"), "n>1M"),
)


def _about(name: str) -> str:
    if name.startswith("candidates-"):
        return f"ranked candidates behind `{name.removeprefix('candidates-')}`, by id, with scores"
    return FIXED_CONFIGS.get(name) or ARMS[name]


def _drop_counts(drops: pa.Table) -> list[dict[str, Any]]:
    counts = drops.group_by(["stage", "reason"], use_threads=False).aggregate([("id", "count")])
    rows: list[dict[str, Any]] = counts.to_pylist()
    return rows


def _samples(arms: list[str], configs: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    """The first rows, all kinds of negatives of a query side by side."""
    shared = configs[arms[0]]
    return [
        {
            "query": shared["query"][row].as_py(),
            "positive": shared["positive"][row].as_py(),
            "negatives": {arm: configs[arm]["negative_1"][row].as_py() for arm in arms},
        }
        for row in _spread(shared.num_rows)
    ]


def _spread(rows: int) -> list[int]:
    """`SAMPLE_ROWS` row numbers, evenly over the table.

    >>> _spread(3), _spread(100)
    ([0, 1, 2], [0, 20, 40, 60, 80])
    """
    return list(range(rows)) if rows <= SAMPLE_ROWS else [rows * part // SAMPLE_ROWS for part in range(SAMPLE_ROWS)]
