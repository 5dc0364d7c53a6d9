"""The steps of a build, straight down: corpus, queries, leakage, candidates, scores, selection, data set."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from builders.context import Context, no_llm
from builders.corpus import Corpus, load, sample
from builders.dataset.contents import configs_of, inputs_of, models_of, record_of
from builders.dataset.costs import Stages, costs_file
from builders.dataset.folder import read_manifest, write_folder
from builders.doctor.examine import examine
from builders.estimate.dry_run import dry_run
from builders.exam import STAGE as EXAM
from builders.exam.own import own_queries
from builders.exam.setting import Exam, set_aside, set_exam
from builders.funnel import ANOTHER_LLM, Funnel, warn_of_long
from builders.leakage.found import Found
from builders.leakage.guard import Guard
from builders.llm.client import Llm, identified, llm_session
from builders.llm.config import LlmConfig
from builders.mining import mine_all
from builders.negatives import domain_ranker
from builders.passages import Passages
from builders.queries import STAGE, Queries, labelled
from builders.queries.labelled import Labelled
from builders.queries.pairs import check_titles, pair_rows
from builders.queries.round_trip import retrieval_of, round_trip
from builders.queries.written import write
from builders.recipe import BuildRecipe, asks_llm, identity_hash
from builders.recipe_checks import check_ids, check_sizes
from builders.selection import chosen_by_kind, select
from builders.selection.stored import inputs_from, own_positives, wanted_by
from foils.engine.run import check
from foils.errors import UserError
from foils.folders import locked
from foils.recipe import Recipe

logger = logging.getLogger(__name__)


def build(recipe: Recipe[BuildRecipe], out: Path, store_file: Path) -> None:
    """Builds the data set of a recipe in `out`, or finds it there as it would be built.

    Raises:
        UserError: the corpus, the endpoint or the output folder is not as it must be.
    """
    earlier = read_manifest(out)
    if earlier is not None and earlier["recipe"]["identity"] != identity_hash(recipe.config):
        raise UserError(
            f"output folder {out}: it holds {earlier['name']!r}, built from another recipe or by another version "
            "of Foils; name another with --out, or delete it"
        )
    checked = _checked(recipe.config, store_file.with_name("cache"))
    if earlier is not None and earlier["inputs"] == checked.inputs and earlier.get("prices") == checked.prices:
        logger.info("%s is complete and nothing that shapes it has changed: nothing to do", out)
        return
    with locked(out):
        _build(recipe, checked, out, store_file)


def _build(recipe: Recipe[BuildRecipe], checked: "_Checked", out: Path, store_file: Path) -> None:
    config = recipe.config
    with llm_session(checked.llm, store_file, out) as session:
        read, cache, stages = checked.corpus, store_file.with_name("cache"), Stages(costs_file(out))
        context = Context(read.passages, read.language, config.seed, session.run, cache, stages, engine=config.engine)
        exam = _exam(config, checked, session, context, store_file)
        pairs, unpaired = pair_rows(config.queries.pairs, exam, checked.guard, context, checked.funnel)
        asked = _asked(config, checked, context, exam)
        config = _with_ranker(config, asked.accepted, context, out)
        candidates = mine_all(asked.accepted, context, config)
    leaked = asked.leaked and checked.guard.with_generated(asked.leaked, candidates.generated)
    with context.stages.timed("selection"):
        known = checked.given and checked.given.qrels_of(asked.accepted)
        out_of_use = [*([leaked.passages_to_drop] if leaked else []), *(exam.kept_out["id"].chunks if exam else [])]
        kept_out = pa.chunked_array(out_of_use, pa.string())
        selection = select(inputs_from(asked.accepted, candidates, known, kept_out), wanted_by(config))
    funnel, rows = checked.funnel, len(selection.queries)
    for stage, found in candidates.mined.items():
        left = found.generated.num_rows
        if found.drops.num_rows:
            funnel.step(f"negatives of {stage}", left, found.drops, left + found.drops.num_rows, ANOTHER_LLM)
    remedy = "set negatives.per_query lower, loosen [selection], or leave that kind out of negatives.kinds"
    funnel.step("queries with negatives of every kind", rows, selection.drops, asked.accepted.num_rows, remedy)
    leaked = leaked and leaked.with_negatives(chosen_by_kind(selection.fates))
    if checked.given is None:
        session.ledger.account(STAGE).accepted = asked.usable
    for stage, found in candidates.mined.items():
        if found.generated.num_rows:
            session.ledger.account(stage).accepted = found.generated.num_rows
    ledgers = [*([exam.ledger] if exam and exam.ledger else []), session.ledger]
    record = record_of(recipe, checked.inputs, checked.corpus.license) | {
        "funnel": funnel.steps,
        "fates": selection.summary,
        "mixes": selection.mixes,
        "models": models_of(config),
        "mining": {kind: dict(found.record) for kind, found in candidates.mined.items() if found.record},
        "usage": {stage: account for ledger in ledgers for stage, account in ledger.summary().items()},
        "prices": checked.prices,
        **({"leakage": leaked.summary()} if leaked else {}),
        **({"exam": msgspec.to_builtins(exam.record)} if exam else {}),
        **({"judges": [msgspec.to_builtins(exam.judge[0])]} if exam and exam.judge else {}),
    }
    drops = [checked.corpus.drops, *unpaired, *asked.drops, *(found.drops for found in candidates.mined.values())]
    drops += [*([leaked.drops] if leaked else []), *([exam.kept_out] if exam else []), selection.drops]
    configs = configs_of(checked.corpus, asked.accepted, candidates, selection, pa.concat_tables(drops), exam)
    write_folder(out, {**configs, **pairs, **({"leakage": leaked.hits} if leaked else {})}, record)
    kinds, cost = ", ".join(config.negatives.kinds), " + ".join(filter(None, (each.cost() for each in ledgers)))
    logger.info("%s", funnel.lines(selection.rows))
    calls, spent = sum(each.new_calls for each in ledgers), f", {cost} in all" if cost else ""
    logger.info("%s: %d queries with %s; %d new LLM calls%s", out, rows, kinds, calls, spent)


def estimated(config: BuildRecipe, store_file: Path, sample_rows: int) -> None:
    """Prints what the whole build will cost, from real calls for some of its rows; see `dry_run`.

    Raises:
        UserError: as `build`; also if even the lower end of the estimate is above the budget, or as `check`.
    """
    if config.engine:
        check(config.engine)
    dry_run(config, _checked(config, store_file.with_name("cache")).corpus, store_file, sample_rows)


def examined(config: BuildRecipe, print_line: Callable[[str], Any] = print) -> None:
    """Tries the recipe's LLM on some rows; see `examine`.

    Raises:
        UserError: as `build`; also if the build would fail at an LLM's stage, or asks nothing of an LLM.
    """
    checked = _checked(config)
    given = None if checked.given is None else checked.given.queries
    own = checked.own.queries if checked.own is not None and checked.own.is_unjudged else None
    if not asks_llm(config, judges=own is not None) and not (config.exam and config.exam.llm):
        raise UserError(
            "the recipe asks nothing of an LLM: its queries are labelled and no kind is written; nothing to examine"
        )
    set_aside(config.exam, checked.corpus, checked.barred)
    context = Context(checked.corpus.passages, checked.corpus.language, config.seed, no_llm)
    examine(config, context, given, own, print_line)


class _Checked(NamedTuple):
    """What is read and checked before anything is paid for.

    Attributes:
        corpus: cleaned.
        funnel: what reading and cleaning left.
        llm: identified.
        given: labelled queries; None where the LLM writes them.
        own: people's own queries of the exam; None where the recipe names none.
        guard: the evaluation sets that nothing may leak from.
        inputs: all that the data set depends on.
        prices: of the LLM, as the manifest has them; None where none is known.
    """

    corpus: Corpus
    funnel: Funnel
    llm: LlmConfig
    given: Labelled | None
    own: Labelled | None
    guard: Guard
    inputs: dict[str, Any]
    prices: dict[str, Any] | None

    @property
    def barred(self) -> list[str]:
        """The passages that labelled training queries are answered by, whose groups no exam may have."""
        return [] if self.given is None else self.given.qrels["corpus-id"].to_pylist()


def _checked(config: BuildRecipe, cache: Path = Path("outputs/cache")) -> _Checked:
    corpus, funnel = load(config.corpus, config.engine or None, cache), Funnel()
    read, kept = corpus.passages.num_rows + corpus.drops.num_rows, corpus.passages.num_rows
    funnel.step("passages read", read)
    funnel.step("passages kept", kept, corpus.drops, read)
    warn_of_long(corpus.passages, config)
    check_sizes(config, kept)
    check_titles(config.queries.pairs, corpus.passages)
    llm = identified(config.llm)
    given = None if config.queries.source is None else labelled.read(config.queries, corpus, config.seed)
    own = None if config.exam is None else own_queries(config.exam, corpus)
    check_ids(config, corpus.passages, None if given is None else given.queries)
    guard = Guard(config.leakage)
    guard.check_corpus(Passages(corpus.passages))
    prices = msgspec.to_builtins(llm.prices) if llm.prices.known else None
    inputs = inputs_of(config, corpus, llm, given, own, guard)
    return _Checked(corpus, funnel, llm, given, own, guard, inputs, prices)


def _exam(config: BuildRecipe, checked: _Checked, llm: Llm, context: Context, store_file: Path) -> Exam | None:
    """Sets the exam, by its own LLM where the recipe names one."""
    if config.exam is None:
        return None
    exam = partial(set_exam, config, checked.corpus, checked.own, checked.barred, funnel=checked.funnel)
    with context.stages.timed("exam"):
        if config.exam.llm is None:
            session, found = llm, exam(context.asking(context.converse, config.exam.seed))
        else:
            with llm_session(identified(config.exam.llm), store_file) as session:
                found = exam(context.asking(session.run, config.exam.seed))
    if config.exam.wanted:
        session.ledger.account(EXAM).accepted = found.record.queries
    return found if session is llm else found._replace(ledger=session.ledger)


class _Asked(NamedTuple):
    """The queries that negatives are mined for.

    Attributes:
        accepted: `queries.TABLE`.
        usable: how many there were before the filters.
        drops: `schema.DROPS` of each step.
        leaked: what the guard found; None without evaluation sets.
    """

    accepted: pa.Table
    usable: int
    drops: list[pa.Table]
    leaked: Found | None = None


def _asked(config: BuildRecipe, checked: _Checked, context: Context, exam: Exam | None) -> _Asked:
    """Has queries written, or takes those that are given, and filters them."""
    given, k, funnel = checked.given, config.queries.round_trip_k, checked.funnel
    with context.stages.timed("queries"):
        if given is not None:
            written = Queries(given.queries, given.drops)
            funnel.step("queries judged", given.judged)
            lost = given.drops.filter(pc.equal(given.drops["reason"], "no-positive"))  # others are of judgements
            funnel.step("queries with a positive in the corpus", given.with_positive, lost, given.judged)
            if written.table.num_rows != given.with_positive:
                funnel.step("queries drawn", written.table.num_rows)
        else:
            passages = context.passages if exam is None else exam.training(context.passages)
            seeds = sample(passages, config.corpus.sample, config.seed)
            written, wanted = write(seeds, config.queries, context), seeds.num_rows * config.queries.per_passage
            funnel.step("queries asked for", wanted)
            funnel.step("queries usable", written.table.num_rows, written.drops, wanted, ANOTHER_LLM)
    with context.stages.timed("round trip"):
        accepted, more_drops = round_trip(written.table, retrieval_of(config.queries, context), k)
    if k:
        before, remedy = written.table.num_rows, f"set queries.round_trip_k above {k}, or to 0 for no filter"
        funnel.step("queries that find their passage", accepted.num_rows, more_drops, before, remedy)
    usable, drops = written.table.num_rows, [written.drops, more_drops]
    if exam is not None:
        known, before = own_positives(accepted) if given is None else given.qrels_of(accepted), accepted.num_rows
        accepted, lost = exam.without_repeats(accepted, known)
        remedy = "set exam.queries lower, or take more passages"
        funnel.step("queries that are not the exam's", accepted.num_rows, lost, before, remedy)
        drops += [exam.drops, lost]
    if not checked.guard.sets:
        return _Asked(accepted, usable, drops)
    with context.stages.timed("leakage guard"):
        leaked = checked.guard.check(accepted, context.corpus)
    left = accepted.filter(pc.invert(pc.is_in(accepted["_id"], value_set=leaked.queries_to_drop)))
    if leaked.config.policy == "drop":
        remedy = "build from another corpus, or set leakage.policy to allow"
        funnel.step("queries in no evaluation set", left.num_rows, before=accepted.num_rows, remedy=remedy)
    return _Asked(left, usable, drops, leaked)


def _with_ranker(config: BuildRecipe, accepted: pa.Table, context: Context, out: Path) -> BuildRecipe:
    """The recipe with the cross-encoder's model filled in: trained now where the recipe says so."""
    ranker = config.negatives.cross_encoder
    if not config.uses("cross-encoder"):
        return config
    if ranker.train_with is not None:
        with context.stages.timed("cross-encoder training"):
            folder = domain_ranker.train(ranker, accepted, context, out.with_name(f"{out.name}-domain-ranker"))
        ranker = msgspec.structs.replace(ranker, model=str(folder))
    negatives = msgspec.structs.replace(config.negatives, cross_encoder=ranker)
    return msgspec.structs.replace(config, negatives=negatives)
