"""Builds a data set: passages, LLM queries, negatives of every kind, selection, one versioned folder.

    python -m builders.build builders/recipes/quickstart.toml [--set llm.concurrency=64] [--out DIR] [--store FILE]
        [--push OWNER/NAME --version v1.0.0]
    python -m builders.build builders/recipes/quickstart.toml --dry-run [--sample-rows 24]
    python -m builders.build builders/recipes/quickstart.toml --doctor

The last tries the LLM endpoint and advises settings. The one before asks the LLM for a few rows alone and says what the
whole build will take: calls, tokens, money and time.
A killed build can be started again: no LLM call that was answered is made twice. So can a killed publication.
"""

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pyarrow as pa

from builders import domain_ranker, embeddings, queries, remining, schema
from builders.corpus import Corpus, content_hash, load, sample
from builders.doctor.examine import examine
from builders.estimate.dry_run import SAMPLE_ROWS, dry_run
from builders.folder import read_manifest, write_folder
from builders.llm.config import LlmConfig
from builders.llm.session import identified, llm_session
from builders.negatives import MINERS, config_of
from builders.negatives.bm25_index import check_language
from builders.negatives.llm import prompt_of
from builders.negatives.material import Material, Mined
from builders.prompts import in_language, prompt_hash, prompt_text
from builders.publish import publish_dataset
from builders.recipe import BuildRecipe, check, identity_hash
from builders.selection import Selection, select
from builders.training_run import recipe_revision
from cards.errors import UserError, run_entry
from cards.models import resolve_model
from cards.provenance import code_version, package_versions
from cards.recipe import Recipe, load_recipe, recipe_arguments
from cards.release import add_push_arguments, push_target

logger = logging.getLogger(__name__)


def main(recipe: Recipe[BuildRecipe], out: Path, store_file: Path) -> None:
    """Builds the data set of a recipe in `out`, or finds it there as it would be built.

    Raises:
        UserError: the recipe, the corpus, the endpoint or the output folder is not as it must be.
    """
    config = recipe.config
    check(config)
    earlier = read_manifest(out)
    if earlier is not None and earlier["recipe"]["identity"] != identity_hash(config):
        raise UserError(
            f"output folder {out}: it holds {earlier['name']!r}, built from another recipe; name another with "
            "--out, or delete it"
        )
    corpus, llm, inputs = _checked(config)
    prices = msgspec.to_builtins(llm.prices) if llm.prices.known else None
    if earlier is not None and earlier["inputs"] == inputs and earlier.get("prices") == prices:
        logger.info("%s is complete and nothing that shapes it has changed: nothing to do", out)
        return
    with llm_session(llm, store_file) as session:
        seeds = sample(corpus.passages, config.corpus.sample, config.seed)
        material = Material(corpus.passages, config.corpus.language, config.seed, session.run)
        with _timed("queries"):
            written = queries.write(seeds, seeds.num_rows, config.queries, material)
        with _timed("round trip"):
            accepted = queries.round_trip(written.table, _retriever(config, material), config.queries.round_trip_k)
        _check_some_left(seeds, written, accepted)
        config = _with_ranker(config, accepted.table, material, out)
        mined: dict[str, Mined] = {}
        for kind in config.negatives.kinds:
            with _timed(f"{kind} negatives"):
                mined[kind] = MINERS[kind](accepted.table, material, config_of(config.negatives, kind))
    selection = _select(accepted.table, mined, material, config.negatives.per_query)
    _check_some_left(seeds, written, accepted, selection)
    drops = [corpus.drops, written.drops, accepted.drops, *(found.drops for found in mined.values()), selection.drops]
    funnel = {
        "passages read": corpus.passages.num_rows + corpus.drops.num_rows,
        "passages kept": corpus.passages.num_rows,
        "queries asked for": seeds.num_rows * config.queries.per_passage,
        "queries usable": written.table.num_rows,
        "queries that find their passage": accepted.table.num_rows,
        "queries with negatives of every kind": selection.queries.num_rows,
    }
    session.ledger.account(queries.STAGE).accepted = written.table.num_rows
    for stage, found in mined.items():
        if found.generated.num_rows:
            session.ledger.account(stage).accepted = found.generated.num_rows
    record = _record(recipe, llm, inputs, corpus.license) | {
        "funnel": funnel,
        "models": _models(config),
        "usage": session.ledger.summary(),
        "prices": prices,
    }
    write_folder(out, _configs(corpus, selection, mined, pa.concat_tables(drops)), record)
    rows, kinds = selection.queries.num_rows, ", ".join(config.negatives.kinds)
    cost = session.ledger.cost()
    told = f", {cost} in all" if cost else ""
    logger.info("%s: %d queries with %s; %d new LLM calls%s", out, rows, kinds, session.ledger.new_calls, told)


def estimate(recipe: Recipe[BuildRecipe], store_file: Path, sample_rows: int) -> None:
    """Prints what the whole build will cost, from real calls for some of its rows; see `dry_run`.

    Raises:
        UserError: as `main`; also if even the lower end of the estimate is above the budget.
    """
    config = recipe.config
    check(config)
    corpus, llm, _ = _checked(config)
    dry_run(config, corpus.passages, llm, store_file, lambda material: _retriever(config, material), sample_rows)


def _checked(config: BuildRecipe) -> tuple[Corpus, LlmConfig, dict[str, Any]]:
    """The corpus, the LLM, and all that the data set depends on, before anything is paid for."""
    corpus = load(config.corpus)
    _check_sizes(config, corpus)
    check_language(config.corpus.language)
    llm = identified(config.llm)
    return corpus, llm, _inputs(config, corpus, llm)


def _check_some_left(
    seeds: pa.Table, written: queries.Queries, accepted: queries.Queries, selection: Selection | None = None
) -> None:
    if selection is not None and selection.queries.num_rows == 0:
        reasons = Counter(row["detail"] for row in selection.drops.to_pylist() if row["reason"] == "too-few-negatives")
        raise UserError(
            f"no query has enough negatives of every kind ({reasons.most_common(1)[0][0]} for most of them); set "
            "negatives.per_query lower, or leave that kind out of negatives.kinds"
        )
    if accepted.table.num_rows == 0:
        raise UserError(
            f"no query was accepted: {written.drops.num_rows} of {seeds.num_rows} passages got no usable answer and "
            f"{accepted.drops.num_rows} queries did not find their passage; try another model or a larger "
            "queries.round_trip_k"
        )


def _record(recipe: Recipe[BuildRecipe], llm: LlmConfig, inputs: dict[str, Any], licence: str | None) -> dict[str, Any]:
    """The manifest's account of where a data set comes from; holds no time and no place, so equal builds are equal."""
    config = recipe.config
    return {
        "name": config.name,
        "recipe": {"text": recipe.text, "overrides": recipe.overrides, "identity": identity_hash(config)},
        "settings": msgspec.to_builtins(msgspec.structs.replace(config, llm=llm.shaping())),
        "inputs": inputs,
        "license": licence,
        "prompts": {name: prompt_text(name) for name in inputs["prompts"]},
        "language": config.corpus.language,
        "code": _code(config),
        "packages": package_versions(),
    }


def _check_sizes(config: BuildRecipe, corpus: Corpus) -> None:
    size = corpus.passages.num_rows
    if config.queries.round_trip_k >= size:
        raise UserError(
            f"queries.round_trip_k {config.queries.round_trip_k}: the corpus has {size} passages, so the filter would "
            f"keep everything; set it below {size}, or to 0 for no filter"
        )
    if config.negatives.per_query >= size:
        raise UserError(
            f"negatives.per_query {config.negatives.per_query}: the corpus has {size} passages, so a query has at most "
            f"{size - 1} negatives; set it lower"
        )


def _inputs(config: BuildRecipe, corpus: Corpus, llm: LlmConfig) -> dict[str, Any]:
    """All that a data set depends on: equal inputs give equal bytes.

    Missing models and prompts are noticed here, before the LLM is paid.

    Raises:
        UserError: a model, a prompt or the ranker's training recipe is not there.
    """
    language = config.corpus.language
    prompts = set(config.queries.weights())
    writers = {"llm": config.negatives.llm, "llm-with-positive": config.negatives.llm_with_positive}
    for kind, writer in writers.items():
        if kind in config.negatives.kinds:
            prompt_of(writer, language, kind)
            prompts.add(writer.prompt)
    return {
        "recipe": identity_hash(config),
        "corpus": {
            "source": corpus.source,
            "revision": corpus.revision,
            "sha256": content_hash(corpus.passages),
        },
        "llm": {"model": llm.model, "revision": llm.revision, "server": llm.server},
        "models": _models(config),
        "prompts": {name: prompt_hash(name) for name in sorted(in_language(name, language) for name in prompts)},
        "code": _code(config)["sha256"],
        "packages": dict(package_versions()),
    }


def _code(config: BuildRecipe) -> Mapping[str, str | None]:
    """The version of the code that makes the data set; training's too where the build trains its own ranker."""
    used = (config.negatives.cross_encoder, "cross-encoder"), (config.negatives.dense, "dense")
    trains = any(kind in config.negatives.kinds and settings.train_with is not None for settings, kind in used)
    return code_version("builders", "cards", *(["training"] if trains else []))


def _retriever(config: BuildRecipe, material: Material) -> queries.Retrieve:
    model = config.queries.round_trip_model
    if model is None:
        return lambda texts, k: [[passage_id for passage_id, _ in hits] for hits in material.bm25.search(texts, k)]
    return embeddings.retriever(model, material.corpus, material.cache)


def _with_ranker(config: BuildRecipe, accepted: pa.Table, material: Material, out: Path) -> BuildRecipe:
    """The recipe with the cross-encoder's model filled in: trained now where the recipe says so."""
    ranker = config.negatives.cross_encoder
    if "cross-encoder" not in config.negatives.kinds:
        return config
    if ranker.train_with is not None:
        with _timed("cross-encoder training"):
            folder = domain_ranker.train(ranker.train_with, accepted, material, out.with_name("domain-ranker"))
        ranker = msgspec.structs.replace(ranker, model=str(folder))
    negatives = msgspec.structs.replace(config.negatives, cross_encoder=ranker)
    return msgspec.structs.replace(config, negatives=negatives)


def _models(config: BuildRecipe) -> dict[str, dict[str, str]]:
    """The models that choose negatives or filter queries, pinned; one that is still to be trained, by its recipe."""
    used: dict[str, str | None] = {}
    ranker = config.negatives.cross_encoder
    if "cross-encoder" in config.negatives.kinds:
        used["cross-encoder"] = ranker.model
    if "dense" in config.negatives.kinds:
        used["dense"] = config.negatives.dense.model
    if config.queries.round_trip_k:
        used["round-trip"] = config.queries.round_trip_model
    pinned = {role: resolve_model(name) for role, name in used.items() if name is not None}
    models = {role: {"name": model.name, "revision": model.revision} for role, model in pinned.items()}
    if "cross-encoder" in used and ranker.model is None:
        models["cross-encoder"] = {
            "name": Path(str(ranker.train_with)).name,
            "revision": recipe_revision(ranker.train_with, domain_ranker.TRAIN_WITH),
        }
    if "dense" in used and config.negatives.dense.train_with is not None:
        recipe = config.negatives.dense.train_with
        models["dense-training"] = {"name": Path(recipe).name, "revision": remining.recipe_of(recipe)}
    return models


def _select(accepted: pa.Table, mined: Mapping[str, Mined], material: Material, per_query: int) -> Selection:
    bodies = dict(zip(material.ids, material.passages["text"].to_pylist(), strict=True))
    texts = dict(material.texts)
    for found in mined.values():
        for row in found.generated.to_pylist():
            bodies[row["_id"]] = texts[row["_id"]] = row["text"]
    candidates = {kind: found.candidates for kind, found in mined.items()}
    return select(accepted, candidates, texts, bodies, per_query)


def _configs(corpus: Corpus, selection: Selection, mined: Mapping[str, Mined], drops: pa.Table) -> dict[str, pa.Table]:
    kept = selection.queries
    qrels = {"query-id": kept["_id"], "corpus-id": kept["corpus-id"], "score": [1] * kept.num_rows}
    return {
        "default": pa.table(qrels, schema.QRELS),
        "corpus": corpus.passages,
        "queries": kept.select(["_id", "text"]),
        **selection.rows,
        **{f"candidates-{kind}": found.candidates for kind, found in mined.items()},
        "generated": pa.concat_tables([found.generated for found in mined.values()]),
        "drops": drops,
    }


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = perf_counter()
    yield
    logger.info("%s: %.1f s", stage, perf_counter() - started)


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument("--out", type=Path, help="the data set's folder; default: outputs/NAME/dataset")
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("outputs/calls.sqlite"),
        help="the file with the LLM's answers, which builds may share; default: %(default)s",
    )
    add_push_arguments(parser, licence=True, dry_run_alone="without it: say what the build will cost")
    parser.add_argument("--sample-rows", type=int, metavar="N", help="passages that --dry-run tries; default: 24")
    parser.add_argument("--doctor", action="store_true", help="try the LLM endpoint, advise settings, build nothing")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides, BuildRecipe)
    if arguments.doctor:
        examine(recipe.config)
        return
    target = push_target(arguments, dry_run_alone=True)
    if arguments.dry_run and target is None:
        estimate(recipe, arguments.store, SAMPLE_ROWS if arguments.sample_rows is None else arguments.sample_rows)
        return
    if arguments.sample_rows is not None:
        raise UserError("--sample-rows belongs to --dry-run without --push; add the one, or leave out the other")
    out = arguments.out or Path("outputs") / recipe.config.name / "dataset"
    main(recipe, out, arguments.store)
    if target is not None:
        publish_dataset(out, target)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
