"""What stages hand on to one another, each declared once: results, and what data sets and models say of themselves.

A file that does not decode is broken; any other exception is a mistake of the code. Of a run record only what other
stages read is declared. Manifests are in `foils.manifest`, comparisons in `foils.comparison`.
"""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from foils.errors import UserError

RecordT = TypeVar("RecordT", bound=Struct)


def read_record(file: Path, kind: type[RecordT], remedy: str) -> RecordT | None:
    """Reads a record; None where the file does not exist.

    Args:
        file: JSON, UTF-8.
        kind: what it holds.
        remedy: ends the error.

    Raises:
        UserError: the file does not decode.
    """
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a {kind.__name__} as this version writes it ({error}); {remedy}") from None


class Drift(Struct, frozen=True):
    """How far scores computed in another format are from those of fp32 in torch.

    Attributes:
        spearman: of the scores of a query with all its passages, mean over queries.
        top: share of a query's 10 best passages that are among the 10 best of fp32, mean over queries.
        difference: the largest between two scores: cosines as a rule, logits of a cross-encoder.
        cosine_mean: of a text's two embeddings; None for a cross-encoder. `cosine_worst`: where it changed most.
        queries: number of queries measured, each scored with `passages` passages.
        per_second: texts (pairs for a cross-encoder) read per second, without tokenising; `torch_per_second`: in fp32.
        drifted: whether the ranking differs from that of fp32: `spearman` below 0.99 or `top` below 0.9.
    """

    spearman: float
    top: float
    difference: float
    cosine_mean: float | None
    cosine_worst: float | None
    queries: int
    passages: int
    per_second: float
    torch_per_second: float
    drifted: bool

    def line(self) -> str:
        """Describes the drift in one line."""
        near = "" if self.cosine_mean is None else f"cosine {self.cosine_mean:.4f}, worst {self.cosine_worst:.4f}, "
        speed = f"{self.per_second:.0f} texts/s against {self.torch_per_second:.0f}"
        warned = "; it ranks otherwise than the model" if self.drifted else ""
        return f"{near}Spearman {self.spearman:.4f}, top-10 agreement {self.top:.3f}, {speed}{warned}"


class Result(Struct, frozen=True, forbid_unknown_fields=True):
    """One model on one task.

    Attributes:
        model: its name; `model_revision`, `weights` and `identity` are those of `foils.models.ModelReference`.
        task: its name; `task_revision` pins its data, `split` its part.
        dataset: the Hub data set that the task's data comes from; None for local files.
        queries_of: see `eval.measure.tasks.Task`.
        queries: number of judged queries; the `unanswerable` ones among them have no relevant passage and score 0.
        metrics: printed name of a metric -> mean over the queries, 0 to 1.
        precision: of the weights while encoding.
        prompts: put before texts in place of the model's own; None for its own.
        pooling: of a model that does not say how it pools; None for one that does.
        ignore_identical_ids: whether the passage whose id is the query's was left out of the rankings.
        seconds: wall time of encoding and search.
        packages: versions behind the figures.
        drift: of some texts' scores from fp32; None for fp32.
    """

    model: str
    model_revision: str
    weights: str
    identity: str
    task: str
    task_revision: str
    split: str
    dataset: str | None
    queries_of: str | None
    queries: int
    unanswerable: int
    metrics: dict[str, float]
    precision: str
    prompts: dict[str, str] | None
    pooling: str | None
    ignore_identical_ids: bool
    seconds: float
    packages: dict[str, str]
    drift: Drift | None


class ModelEntry(Struct, frozen=True):
    """A model that something was made with: a Hub id or a folder's name, and a commit or `sha256:...`.

    `reference` is how the recipe named it; `weights` is None in records from before it was kept.
    """

    name: str
    revision: str
    reference: str = ""
    weights: str | None = None


class Source(Struct, frozen=True):
    """A data set that a model was trained on.

    Attributes:
        name: a Hub id, or a folder's name.
        revision: a commit, or `sha256:...` of a folder's content.
        tag: the revision as the recipe names it; None for a folder.
        kind: the kind of negatives; None for other data.
        rows: number of rows.
        also: further data.
    """

    name: str
    revision: str
    tag: str | None = None
    kind: str | None = None
    rows: int | None = None
    also: list["Source"] = []

    def all(self) -> list["Source"]:
        """This one and what was trained on beside it."""
        return [self, *self.also]


class Seen(Struct, frozen=True):
    """What is known of overlap with evaluation sets, by their names.

    Attributes:
        data: those that overlap with the training data; None if it was compared with none.
        base: those that the base was trained on; None if nothing says it.
        compared_with: those that data and base were compared with; of others nothing is known.
    """

    data: list[str] | None = None
    base: list[str] | None = None
    compared_with: list[str] = []


class Plan(Struct, frozen=True):
    """What pre-flight says of a recipe: column -> prompt, the sampler of batches, and the longest text in tokens."""

    prompts: dict[str, str]
    sampler: str
    max_seq_length: int | None


class Lengths(Struct, frozen=True):
    """A column of the rows with the mean number of tokens that the model reads of it."""

    column: str
    mean: float = 0.0


class Preflight(Struct, frozen=True):
    """What pre-flight found: the plan, figures of batches, and by data set its columns."""

    plan: Plan
    batches: dict[str, Any]
    tokens: dict[str, list[Lengths]]


class Outcome(Struct, frozen=True):
    """What came of a training.

    `pairs` is the hash of queries and positives row by row, `history` what was logged by step, and `dev` the scores on
    held-out queries. None stands for not known.
    """

    steps: int | None = None
    batch_size: int | None = None
    pairs: str | None = None
    history: list[dict[str, Any]] | None = None
    preflight: Preflight | None = None
    dev: dict[str, Any] | None = None


class RunRecord(Struct, frozen=True):
    """`run.json` as evaluation, comparisons and verification read it.

    Attributes:
        dataset: what was trained on.
        base: what training started from.
        model: `revision` -> `sha256:...` of the trained weights.
        training: what came of it.
        training_datasets: what is known of overlap with evaluation sets.
        seconds: wall time of the training.
        peak_memory: the most that it held: `mib`, and on what; None in records of earlier versions.
        files: path -> SHA-256.
        inputs: what decided the model: its `recipe` with the defaults, and the hashes of its `rows`.
    """

    dataset: Source
    base: ModelEntry
    model: dict[str, str] = {}
    training: Outcome = Outcome()
    training_datasets: Seen = Seen()
    seconds: float = 0.0
    peak_memory: dict[str, Any] | None = None
    files: dict[str, str] = {}
    inputs: dict[str, Any] = {}

    def weights(self) -> str:
        """`sha256:...` of the trained weights; empty where the record does not say it."""
        return self.model.get("revision", "")
