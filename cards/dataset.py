"""The data set's card: YAML that `load_dataset` reads, and text that a person can judge the rows by."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cards.merging import Card, block, blocks, parse_card
from cards.publish.versions import Version
from cards.templates import environment
from foils.hub import COMMIT
from foils.kinds import PAIRS
from foils.words import duration, shortened

SAMPLE_ROWS = 5
CELL_CHARS = 160
USE = "use"
FIXED_CONFIGS = {
    "default": "the exam's relevance judgements",
    "default/own": "judgements of people's own queries beside them: split `own` of `default`",
    "queries": "the exam's queries",
    "corpus": "all passages",
    "train-queries": "all accepted training queries, also those that are left without enough negatives",
    "titles": "titles of passages and the text under them, without negatives",
    "crops": "sentences of passages and the rest of each passage, without negatives",
    "train-pairs": "the queries of `titles` and `crops`, with the group of passages that each belongs to",
    "train-qrels": "their relevance judgements: all known positives of each query, the one in its rows first",
    "judgements": "what judges said of hits for the exam's queries, with their quotes",
    "exam-groups": "the passages that are kept for the exam, with the group that each belongs to",
    "generated": "passages that the LLM wrote as negatives",
    "fates": "what became of every candidate: the column it stands in, or why it stands in none",
    "leakage": "queries and passages that stand in evaluation sets, by id, and how that showed",
    "drops": "every row that was thrown out, with stage, reason and detail",
}
ARMS = {
    "llm": "negatives that the LLM wrote from the query's text alone",
    "llm-with-positive": "negatives that the LLM wrote from the query and the passage that answers it",
    "bm25": "negatives among BM25's first {depth} hits",
    "cross-encoder": "negatives among the {depth} best that a cross-encoder ranks, of {pool_from}'s first {pool} hits",
    "dense": "negatives among the {depth} passages whose embeddings are nearest to the query's",
    "random": "negatives drawn at random from the corpus (control)",
    "none": "queries and positives alone, for training with the negatives of the batch (control)",
}
_WRITTEN = ("llm", "llm-with-positive")
_DTYPES = {"double": "float64", "float": "float32"}
"""Arrow's names of types that `datasets` calls otherwise."""
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (float("inf"), "n>1M"),
)


def render_card(manifest: Mapping[str, Any], folder: Path) -> str:
    """Renders the README of a data set folder that is not published yet.

    Args:
        manifest: as `builders.dataset.folder` writes it.
        folder: holds the files that the manifest lists.
    """
    data = environment.get_template("dataset_data.md").render(
        manifest=manifest,
        about={name: _about(name, manifest) for name in manifest["configs"]},
        drops=_drop_counts(manifest, folder),
        llm_uses=_llm_uses(manifest),
        fates=list(dict.fromkeys(fate for counts in manifest.get("fates", {}).values() for fate in counts)),
        samples=_samples(manifest, folder),
        cell=partial(cell, limit=CELL_CHARS),
        duration=partial(duration, digits=1),
    )
    audit = manifest.get("audit", {})
    for part, is_there in (
        ("dataset_exam.md", bool(manifest.get("exam"))),
        ("dataset_audit.md", "false_negatives" in audit),
        ("dataset_realism.md", "realism" in audit),
        ("dataset_leakage.md", bool(manifest.get("leakage"))),
    ):
        if is_there:
            data += "\n\n" + environment.get_template(part).render(manifest=manifest)
    text = environment.get_template("dataset.md").render(
        manifest=manifest,
        arms=[manifest["configs"][arm] for arm in kinds_in(manifest)],
        use=_use_block(manifest, None, None),
        data=block("data", data),
        changelog=block("changelog", "Not published yet."),
    )
    return Card(card_data(manifest, folder), text).render()


def card_for_version(card: str, manifest: Mapping[str, Any], repo_id: str, version: Version) -> str:
    """A folder's card with code that loads one published version."""
    parsed = parse_card(card)
    known = blocks(parsed.text)
    return parsed._replace(text=parsed.text.replace(known[USE], _use_block(manifest, repo_id, version))).render()


def kinds_in(manifest: Mapping[str, Any]) -> list[str]:
    """The kinds of negatives: configurations that a trainer takes as they are, with the same queries and positives."""
    found = [name for name, about in manifest["configs"].items() if about["columns"][:1] == ["query"]]
    return [name for name in found if name not in PAIRS]


def cell(text: str, limit: int) -> str:
    r"""A text for a Markdown table: one line, shortened, nothing that would be read as markup.

    >>> cell("a | b" + chr(10) + "<i>", 20)
    'a \\| b &lt;i&gt;'
    """
    line = shortened(text, limit)
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*")):
        line = line.replace(mark, escaped)
    return line


def _use_block(manifest: Mapping[str, Any], repo_id: str | None, version: Version | None) -> str:
    text = environment.get_template("dataset_use.md").render(
        manifest=manifest, repo=repo_id, version=version and str(version), arms=kinds_in(manifest)
    )
    return block(USE, text)


def card_data(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A card's YAML, with what `load_dataset` and the Hub's viewer read: files, columns with their types, and sizes."""
    corpus, configs, parts = manifest["inputs"]["corpus"], manifest["configs"], dict[str, list[Any]]()
    for name, about in configs.items():
        parts.setdefault(name.partition("/")[0], []).append(about)  # further splits, such as default/own
    written = "queries" not in manifest["inputs"] or "generated" in configs
    return {
        "language": [manifest["language"]],
        **({"license": manifest["license"]} if manifest["license"] else {}),
        "size_categories": [next(name for limit, name in _SIZES if configs["corpus"]["rows"] < limit)],
        "source_datasets": [corpus["source"] if COMMIT.fullmatch(corpus["revision"]) else "original"],
        "task_categories": ["text-retrieval", "sentence-similarity"],
        "pretty_name": manifest["name"],
        "tags": ["foils", "hard-negatives", "sentence-transformers", *(["synthetic"] if written else [])],
        "dataset_info": [_dataset_info(name, splits, folder) for name, splits in parts.items()],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": each["split"], "path": sorted(each["files"])} for each in splits],
                **({"default": True} if name == "default" else {}),
            }
            for name, splits in parts.items()
        ],
    }


def _dataset_info(name: str, parts: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """A configuration's columns and sizes; `parts` are the manifest's entries of its splits."""
    files = [[folder / path for path in about["files"]] for about in parts]
    read = [[pq.read_metadata(file) for file in some] for some in files]
    splits = [
        {
            "name": about["split"],
            "num_bytes": sum(each.row_group(at).total_byte_size for each in some for at in range(each.num_row_groups)),
            "num_examples": sum(each.num_rows for each in some),
        }
        for about, some in zip(parts, read, strict=True)
    ]
    return {
        "config_name": name,
        "features": [
            {"name": field.name, "dtype": _DTYPES.get(str(field.type), str(field.type))}
            for field in read[0][0].schema.to_arrow_schema()
        ],
        "splits": splits,
        "download_size": sum(file.stat().st_size for some in files for file in some),
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _llm_uses(manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What the LLM was asked for, each with the recipe's settings of it."""
    negatives, configs = manifest["settings"]["negatives"], manifest["configs"]
    uses = [] if "queries" in manifest["inputs"] else [("queries", manifest["settings"]["queries"])]
    uses += [(f"negatives of `{kind}`", negatives[kind]) for kind in _WRITTEN if f"candidates-{kind}" in configs]
    if manifest.get("exam", {}).get("prompts") and manifest["settings"]["exam"]["llm"] is None:
        uses.append(("the exam's queries", manifest["settings"]["queries"]))
    if not all(judge["of"] for judge in manifest.get("judges", [])) and manifest["settings"]["exam"]["llm"] is None:
        uses.append(("judging hits for the exam", negatives["llm-judge"]))
    return [*uses, ("judging candidates", negatives["llm-judge"])] if "scores-llm-judge" in configs else uses


def _about(name: str, manifest: Mapping[str, Any]) -> str:
    if name.startswith("candidates-"):
        return f"ranked candidates behind `{name.removeprefix('candidates-')}`, by id, with their scores, if any"
    if name.startswith("scores-"):
        return f"all pairs that `{name.removeprefix('scores-')}` scored, positives among them, by id"
    if "+" in name:
        return f"negatives of {' and '.join(f'`{part}`' for part in name.split('+'))}, mixed by share"
    negatives = manifest["settings"]["negatives"]
    source = negatives.get("variants", {}).get(name, name)
    settings = {**negatives.get(source, {})}
    settings["pool_from"] = " and ".join(settings.get("pool_from", ()))
    text = FIXED_CONFIGS.get(name) or ARMS.get(source, "negatives").format(**settings)
    return f"{text}, by rules of its own (see the recipe)" if source != name else text


def _drop_counts(manifest: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    files = manifest["configs"].get("drops", {}).get("files", ())
    tables = [pq.read_table(folder / path, columns=["stage", "reason", "id"]) for path in files]
    if not tables:
        return []
    drops = pa.concat_tables(tables)
    counts = drops.group_by(["stage", "reason"], use_threads=False).aggregate(
        [("id", "count"), ("id", "count_distinct")]
    )
    # Selection drops a query once for each kind that has too few.
    return [
        {**row, "rows": row["id_count_distinct" if row["stage"] == "selection" else "id_count"]}
        for row in counts.to_pylist()
    ]


def _samples(manifest: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Rows from all over the table, all kinds of negatives of a query side by side."""
    sampled = {}
    for arm in kinds_in(manifest):
        about = manifest["configs"][arm]
        count = min(about["rows"], SAMPLE_ROWS)
        places = [about["rows"] * part // count for part in range(count)]
        sampled[arm] = _rows_at(places, [folder / path for path in about["files"]])
    return [
        {
            "query": row["query"],
            "positive": row["positive"],
            "negatives": {
                arm: rows[place]["negative_1"] for arm, rows in sampled.items() if "negative_1" in rows[place]
            },
        }
        for place, row in enumerate(next(iter(sampled.values())))
    ]


def _rows_at(places: list[int], files: list[Path]) -> list[dict[str, Any]]:
    """The rows at some places of a table in several files; one row group is in memory at a time."""
    rows: list[dict[str, Any]] = []
    start = 0
    for path in files:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                end = start + file.metadata.row_group(number).num_rows
                inside = [place - start for place in places if start <= place < end]
                if inside:
                    rows += file.read_row_group(number).take(inside).to_pylist()
                start = end
    return rows
