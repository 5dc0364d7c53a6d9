"""What a comparison will take, reckoned before anything runs: trainings, GPU hours, LLM calls and money.

Work is counted in matrix products: a token costs two operations a weight beside the attention, a training three times
as much as reading, four with gradient checkpointing. Texts count four characters a token. That is rough:
it tells an hour from a night, and says nothing to the minute.
"""

import json
import struct
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from eval.costs import components
from eval.recipe import CompareRecipe, GpuConfig
from eval.report import text_table
from eval.runs import CONTROL
from eval.tasks import Task
from foils.errors import UserError
from foils.kinds import kinds_of
from foils.models import resolve_model
from foils.recipe import overridden

_CHARS_PER_TOKEN = 4
_QUERY_TOKENS = 24  # of a written query
_PROMPT_TOKENS = 350  # of a prompt of ours around a query or passage
_TRAIN, _CHECKPOINTED = 3, 4  # readings that a training step is worth
WRITTEN = ("llm", "llm-with-positive")


class Model(NamedTuple):
    """A base as it is trained: `weights` without embeddings, `width` of a layer, and what the recipe says."""

    name: str
    weights: int
    layers: int
    width: int
    length: int
    training: Mapping[str, Any]

    def operations(self, texts: float, tokens: float) -> float:
        """Of reading so many texts of so many tokens."""
        tokens = min(tokens, self.length)
        return texts * tokens * (2 * self.weights + 4 * self.layers * self.width * tokens)


class Rows(NamedTuple):
    """What is trained on: rows, negatives of each, and whether the data set is there to be counted."""

    number: int
    negatives: int
    counted: bool


class Size(NamedTuple):
    """A task's numbers of texts, and the mean characters of one."""

    passages: int
    passage_chars: float
    queries: int
    query_chars: float


class Calls(NamedTuple):
    """LLM calls of one stage, at the first try, with the tokens read and, at most, written."""

    stage: str
    calls: int
    read: int
    written: int


def forecast(config: CompareRecipe, trainings: Sequence[str], tasks: Sequence[Task]) -> str:
    """The whole forecast as text.

    Args:
        config: the comparison.
        trainings: training recipes, one a base.
        tasks: not loaded, where mteb knows how large they are.

    Raises:
        UserError: a recipe or a base cannot be read.
    """
    building = _toml(Path(config.build.recipe), config.build.set) if config.build else {}
    rows = _rows(config, building)
    models = [_model(Path(training)) for training in trainings]
    sizes = {task.name: _size(task) for task in tasks}
    told = [_calls_table(list(_calls(building, config.arms)), building)] if building and not rows.counted else []
    told.append(_work_table(config, models, rows, [size for size in sizes.values() if size is not None]))
    unknown = [name for name, size in sizes.items() if size is None]
    if unknown:
        told.append(f"Not counted, as nobody says how large they are: {', '.join(unknown)}.")
    if not rows.counted:
        told.append(f"The data set is not built yet: {rows.number:,} rows, if no query is dropped.")
    return "\n\n".join(told)


def _work_table(config: CompareRecipe, models: Sequence[Model], rows: Rows, sizes: Sequence[Size]) -> str:
    gpu = config.gpu or GpuConfig()
    body, total = [], 0.0
    for model in models:
        trained = len(config.seeds) * sum(_training(model, rows, arm) for arm in config.arms)
        reads = 1 + len(config.seeds) * len(config.arms)
        measured = reads * sum(_reading(model, size) for size in sizes)
        total += trained + measured
        for what, runs, work in (("trainings", reads - 1, trained), ("evaluations", reads, measured)):
            body.append([f"{model.name}: {what}", f"{runs:,}", f"{work / 1e15:,.1f}", *_spent(work, gpu)])
    body.append(["all", "", f"{total / 1e15:,.1f}", *_spent(total, gpu)])
    table = text_table([["", "runs", "PFLOP", "GPU hours", "money"], *body])
    return f"{table}\nGPU hours: at {gpu.tflops:g} TFLOP/s reached (gpu.tflops), loading and searching left out."


def _spent(work: float, gpu: GpuConfig) -> list[str]:
    hours = work / (gpu.tflops * 1e12) / 3600
    return [f"{hours:,.2f}", f"{hours * gpu.hour:,.2f} {gpu.currency}" if gpu.hour else "gpu.hour is not set"]


def _training(model: Model, rows: Rows, arm: str) -> float:
    """Operations of one training on an arm."""
    trainer = model.training.get("trainer", {})
    batch, epochs = trainer.get("per_device_train_batch_size", 8), trainer.get("num_train_epochs", 3)
    seen = trainer["max_steps"] * batch if trainer.get("max_steps", -1) > 0 else rows.number * epochs
    passages = 1 + (0 if arm == CONTROL else rows.negatives)
    factor = _CHECKPOINTED if trainer.get("gradient_checkpointing") else _TRAIN
    return factor * (model.operations(seen, _QUERY_TOKENS) + model.operations(seen * passages, model.length))


def _reading(model: Model, size: Size) -> float:
    """Operations of one evaluation on a task."""
    passages = model.operations(size.passages, size.passage_chars / _CHARS_PER_TOKEN)
    return passages + model.operations(size.queries, size.query_chars / _CHARS_PER_TOKEN)


def _calls(building: Mapping[str, Any], arms: Sequence[str]) -> Iterator[Calls]:
    """The calls that a build makes for queries and for the arms that an LLM writes."""
    queries, negatives = building.get("queries", {}), building.get("negatives", {})
    if "source" in queries:
        asked = int(queries.get("sample", 0))
    else:
        asked = int(building["corpus"].get("sample", 300)) * queries.get("per_passage", 1)
        passage = queries.get("passage_chars", 4000) // _CHARS_PER_TOKEN
        yield Calls("queries", asked, asked * (_PROMPT_TOKENS + passage), asked * queries.get("max_tokens", 48))
    parts = dict.fromkeys(part for arm in arms for part in components(arm, negatives.get("variants", {})))
    for kind in (part for part in parts if part in WRITTEN):
        settings, count = negatives.get(kind, {}), negatives.get("per_query", 1)
        read = _PROMPT_TOKENS + _QUERY_TOKENS + (300 if kind == "llm-with-positive" else 0)
        yield Calls(kind, asked, asked * read, asked * count * settings.get("max_tokens", 128))


def _calls_table(calls: Sequence[Calls], building: Mapping[str, Any]) -> str:
    llm = building.get("llm", {})
    prices = llm.get("prices", {})

    def money(read: int, written: int) -> str:
        if not prices:
            return "llm.prices is not set"
        amount = (read * prices.get("input", 0.0) + written * prices.get("output", 0.0)) / 1e6
        return f"{amount:,.2f} {prices.get('currency', 'USD')}"

    whole = Calls("all", *(sum(column) for column in zip(*(each[1:] for each in calls), strict=True)))
    body = [
        [each.stage, f"{each.calls:,}", f"{each.read:,}", f"{each.written:,}", money(each.read, each.written)]
        for each in (*calls, whole)
    ]
    table = text_table([["LLM", "calls", "tokens read", "written, at most", "money, at most"], *body])
    model = llm.get("model", "the embedded one")
    return f"{table}\nModel: {model}. At the first try; builders.build --dry-run tries some passages for real."


def _rows(config: CompareRecipe, building: Mapping[str, Any]) -> Rows:
    manifest = Path(config.dataset) / "manifest.json"
    if manifest.exists():
        kinds = json.loads(manifest.read_text("utf-8"))["configs"]
        found = [kinds[kind] for arm in config.arms for kind in kinds_of(arm, kinds) if kind in kinds]
        columns = max((len(each["columns"]) for each in found), default=2)
        return Rows(max((each["rows"] for each in found), default=0), columns - 2, counted=True)
    if not building:
        raise UserError(
            f"--dry-run: dataset {config.dataset} is not a folder here, and no building recipe (build.recipe) says how "
            "many rows it will have; build it, or name the recipe"
        )
    queries = building.get("queries", {})
    sample = queries.get("sample", 0) if "source" in queries else building["corpus"].get("sample", 300)
    return Rows(
        sample * queries.get("per_passage", 1), building.get("negatives", {}).get("per_query", 1), counted=False
    )


def _size(task: Task) -> Size | None:
    """How large a task is; None where nobody knows."""
    if task.mteb.data_loaded:
        data, sample = task.mteb.dataset["default"][task.split], task.sample(200, 200)
        passages, queries = (sum(map(len, texts)) / max(1, len(texts)) for texts in (sample.passages, sample.queries))
        return Size(len(data["corpus"]), passages, len(data["queries"]), queries)
    known = (task.mteb.metadata.descriptive_stats or {}).get(task.split)
    if not known:
        return None
    found = [known[f"{part}_text_statistics"] for part in ("documents", "queries")]
    chars = [float(each["average_text_length"]) for each in found]
    counts = [round(each["total_text_length"] / mean) for each, mean in zip(found, chars, strict=True)]
    return Size(counts[0], chars[0], counts[1], chars[1])


def _model(training: Path) -> Model:
    values = _toml(training, ())
    reference = resolve_model(values["base"])
    folder = Path(reference.location)
    about = json.loads((folder / "config.json").read_text("utf-8")) if (folder / "config.json").exists() else {}
    weights = sum(_weights(file) for file in folder.glob("*.safetensors"))
    width, layers = (
        int(next((about[name] for name in names if name in about), 0))
        for names in (("hidden_size", "dim"), ("num_hidden_layers", "n_layers"))
    )
    return Model(reference.name, weights, layers, width, values.get("max_seq_length", 512), values)


def _weights(file: Path) -> int:
    """Numbers in a safetensors file, embeddings left out, by its head alone."""
    with file.open("rb") as opened:
        head = json.loads(opened.read(struct.unpack("<Q", opened.read(8))[0]))
    shapes = [about["shape"] for name, about in head.items() if name != "__metadata__" and "embedding" not in name]
    return sum(prod(shape) for shape in shapes)


def _toml(file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    try:
        return overridden(tomllib.loads(file.read_text("utf-8")), overrides)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"recipe {file}: cannot be read ({error})") from None
