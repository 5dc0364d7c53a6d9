"""`--dry-run`: what a build will cost, before it is paid for, from real calls for a few of its rows."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa

from builders.context import Context
from builders.corpus import sample
from builders.estimate.table import check_budget, report
from builders.estimate.trial import Recorder, run_trial
from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import body_of
from builders.llm.session import llm_session
from builders.llm.store import keyed
from builders.queries.round_trip import Retrieve
from builders.queries.written import query_tasks
from builders.recipe import LLM_JUDGE, BuildRecipe
from foils.errors import UserError

SAMPLE_ROWS, FEWEST = 24, 2
BATCH = 1000


def dry_run(
    config: BuildRecipe,
    passages: pa.Table,
    llm: LlmConfig,
    store_file: Path,
    retriever: Callable[[Context], Retrieve],
    sample_rows: int = SAMPLE_ROWS,
) -> None:
    """Prints an estimate of the whole build; writes nothing but answers, into the call store.

    Args:
        config: the recipe, checked.
        passages: the corpus, `schema.CORPUS`.
        llm: the recipe's, identified.
        store_file: the build's call store.
        retriever: the build's own, for the round trip.
        sample_rows: how many of the build's seed passages are tried.

    Raises:
        UserError: the queries are labelled ones, or an LLM judges candidates; `sample_rows` is too small; the endpoint
            cannot be used; the budget is spent by the sample, or even the lower end of the estimate is above it.
    """
    if config.queries.source is not None:
        raise UserError(
            f"--dry-run: queries.source {config.queries.source} names labelled queries, and the estimate is of builds "
            "whose queries an LLM writes; to try a few, build with --set queries.sample=24 into another --out"
        )
    if LLM_JUDGE in config.scorers:
        raise UserError(
            "--dry-run: selection has a rule on the scorer llm-judge, whose calls the estimate does not know; leave "
            "the rule out to estimate the rest, and expect as many calls more, a query and kind, as rank_max allows"
        )
    if sample_rows < FEWEST:
        raise UserError(f"--sample-rows {sample_rows}: wanted {FEWEST} or more, since one row shows no spread")
    seeds = sample(passages, config.corpus.sample, config.seed)
    with llm_session(llm, store_file) as session:
        material = Context(passages, config.corpus.language, config.seed, session.run, store_file.with_name("cache"))
        sampled = sample(seeds, sample_rows, config.seed)
        recorder = Recorder(session, sampled["_id"].to_pylist())
        trial = run_trial(config, sampled, seeds.num_rows, recorder, material, retriever(material))
        stored = _first_calls_stored(config, seeds, session, material)
    print(report(config, trial, stored, recorder.new))
    check_budget(llm, trial.measured)


def _first_calls_stored(config: BuildRecipe, seeds: pa.Table, llm: Llm, material: Context) -> int:
    """How many of the build's queries need not be paid for at their first attempt: the store has the answers."""
    tasks = query_tasks(seeds.to_batches(max_chunksize=BATCH), config.queries, material)
    stored = 0
    while batch := [keyed(body_of(task.request(0), llm.config)) for task in islice(tasks, BATCH)]:
        found = llm.caller.stored(dict(batch))
        stored += sum(key in found for key, _ in batch)
    return stored
