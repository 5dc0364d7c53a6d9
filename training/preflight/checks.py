"""The checks: each takes the figures and returns its lines of the table, its problems and its warnings."""

from collections.abc import Iterator, Sequence

from sentence_transformers.base.sampler import BatchSamplers

from foils import words
from training.preflight.batches import BUDGET_S
from training.preflight.findings import Check, Figures, Plan, Problem
from training.preflight.texts import Texts

UNUSED, UNUSED_WARNED = 0.5, 0.05
"""Shares of rows that the sampler leaves out of an epoch: refused above, warned of above."""
REUSED, REUSED_WARNED, FEWEST = 0.05, 0.01, 20
"""Shares of rows with the same negative: refused above, warned of above, from so many rows on."""
CUT_WARNED = 0.2
SLOW_SECONDS = 1_800
"""The most that the sampler may take for an epoch."""
TIGHT = 0.8
_WITHOUT_DUPLICATES = (BatchSamplers.NO_DUPLICATES.value, BatchSamplers.NO_DUPLICATES_HASHED.value)
_MOST_COLUMNS, _MOST_NAMES = 8, 6


def batches(figures: Figures) -> Check:
    """Checks how many batches and steps there are, and how many rows they use."""
    plan, found = figures.plan, figures.batches
    if figures.streamed is not None:
        lines = [("data", f"streamed, of unknown size; below: its first {figures.streamed:,} rows")]
        lines += [("batches", f"of {_batch(plan)}; {found.steps:,} steps")]
        return Check(lines)
    parts = f" in {len(found.of_parts)} data sets" if len(found.of_parts) > 1 else ""
    lines = [("data", f"{found.rows:,} rows{parts}; base {plan.base}, loss {plan.loss}")]
    short = f" ({found.announced:,} announced)" if found.announced != found.batches else ""
    planned = f" of {found.planned_steps:,} planned" if found.steps != found.planned_steps else ""
    about = "" if found.exact else "about "
    count = f"{about}{found.batches:,}{short} of {_batch(plan)} an epoch"
    lines += [("batches", f"{count}; {found.epochs:,} epochs, {found.steps:,} steps{planned}")]
    again = f", {found.repeats:,.0f} used again" if found.repeats else ""
    unused = f"{found.unused:,.0f} rows unused an epoch ({found.unused_share:.1%})"
    lines += [("", f"{unused}{again}; sampler {plan.sampler}")]
    if parts:
        lines += [("", "; ".join(f"{name} {count:,}" for name, count in list(found.of_parts.items())[:4]))]
    return Check(lines, list(_batch_problems(figures)), list(_batch_warnings(figures)))


def room(figures: Figures) -> Check:
    """Checks memory and disk."""
    memory, disk, lines, problems, warnings = figures.memory, figures.disk, [], [], []
    if memory is not None:
        parts = {"gradients": memory.gradients, "optimiser": memory.optimiser, "activations": memory.activations}
        each = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
        lines += [("memory", f"about {_size(memory.need)} more ({memory.device}, {_size(memory.free)} free): {each}")]
        if memory.need > memory.free:
            problems += [
                Problem(
                    "memory",
                    f"a step takes about {memory.need / 1e9:,.1f} GB more on each process",
                    f"{memory.free / 1e9:,.1f} GB, which are free ({memory.device})",
                    "set trainer.per_device_train_batch_size lower and trainer.gradient_accumulation_steps higher, or "
                    "use a cached loss, trainer.gradient_checkpointing or a smaller max_seq_length",
                )
            ]
        elif memory.need > TIGHT * memory.free:
            warnings += [f"a step takes about {memory.need / memory.free:.0%} of the memory that is free"]
    kept = f" + {disk.checkpoints} checkpoints of {_size(disk.checkpoint)}" if disk.checkpoints else ""
    lines += [("disk", f"model {_size(disk.model)}{kept}; {_size(disk.free)} free")]
    if disk.need > disk.free:
        problems += [
            Problem(
                "disk",
                f"model and {disk.checkpoints} checkpoints take {disk.need / 1e9:,.1f} GB",
                f"{disk.free / 1e9:,.1f} GB, which are free",
                "free some, give --out on another disk, or set trainer.save_total_limit lower",
            )
        ]
    return Check(lines, problems, warnings)


def tokens(figures: Figures) -> Check:
    """Checks how long texts are, and shows what the model reads."""
    lengths = [(name, each) for name, columns in figures.tokens.items() for each in columns]
    if not lengths:
        return Check()
    limit = figures.plan.max_seq_length
    rows = [["column", "p50", "p95", "longest", "cut", "prompt"]]
    for name, each in lengths[:_MOST_COLUMNS]:
        title = f"{name}: {each.column}" if len(figures.tokens) > 1 else each.column
        prompt = figures.plan.prompts.get(each.column, "")
        numbers = [f"{each.p50:,}", f"{each.p95:,}", f"{each.longest:,}", f"{each.cut:.1%}"]
        rows.append([title, *numbers, repr(prompt) if prompt else "none"])
    table = words.table(rows, left=(0, 5))
    table[0] += f"   (of {lengths[0][1].counted:,} rows; reads {limit:,})" if limit else ""
    table += [f"and {len(lengths) - _MOST_COLUMNS} more columns"] if len(lengths) > _MOST_COLUMNS else []
    lines = list(zip(["tokens", *[""] * (len(table) - 1)], table, strict=True))
    lines += [("" if number else "reads", each.read) for number, (_, each) in enumerate(lengths[:2])]
    warnings = []
    for name, columns in figures.tokens.items():
        cut = [f"{each.column} {each.cut:.0%}" for each in columns if each.cut > CUT_WARNED]
        where = f"{_where(figures, name)}texts are cut at {limit} tokens: "
        warnings += [f"{where}{', '.join(cut)}; set max_seq_length higher if their ends matter"] if cut else []
    return Check(lines, [], warnings)


def texts(figures: Figures) -> Check:
    """Checks empty texts, positives among the negatives, and negatives that many rows have."""
    check = Check([], [], [])
    for number, (name, found) in enumerate(figures.texts.items()):
        where, share = _where(figures, name), found.most_used / max(found.rows, 1)
        line = f"{found.repeated_queries:,} repeated queries"
        if found.negatives:
            line += f"; {found.negatives:,} distinct negatives, the most used in {found.most_used:,} rows"
            line += f"; {found.shared / found.rows:.1%} of rows share one"
        check.lines.extend([(f"texts ({name})" if len(figures.texts) > 1 else "texts", line)] if number < 3 else [])  # noqa: PLR2004
        check.problems.extend(_text_problems(where, found))
        reused = f"{found.most_used_text!r}"
        if found.most_used >= FEWEST and share > REUSED:
            count = f"{where}one negative stands in {found.most_used:,} of {found.rows:,} rows ({share:.1%}): {reused}"
            check.problems.append(Problem("reused-negatives", count, f"up to {REUSED:.0%}", _FEWER_USES))
        elif found.most_used >= FEWEST and share > REUSED_WARNED:
            check.warnings.append(f"{where}one negative stands in {found.most_used:,} rows ({share:.1%}): {reused}")
    return check


def overlap(figures: Figures) -> Check:
    """Reports which evaluation sets data and base have seen."""
    seen = figures.seen
    if seen is None:
        return Check()
    line = "the data was not compared with any evaluation set: nothing is known"
    if seen.data is not None:
        line = f"with {_names(seen.data)}; compared with {_names(seen.compared_with)}"
    base = "not known" if seen.base is None else _names(seen.base)
    return Check([("overlap", line), ("", f"evaluation sets that the base was trained on: {base}")])


def positions(figures: Figures, most: int | None) -> Check:
    """Checks whether texts would be longer than the positions that a base has learnt; None for no limit."""
    limit, base = figures.plan.max_seq_length, figures.plan.base
    if limit is None or most is None or limit <= most:
        return Check()
    found = f"max_seq_length {limit}: base {base} has {most} positions"
    return Check(problems=[Problem("positions", found, f"up to {most}", "set it lower")])


ALL = (batches, room, tokens, texts, overlap)
_FEWER_USES = "build with fewer uses of a negative (the selection rule max_uses)"


def _batch(plan: Plan) -> str:
    each = f"{plan.batch_size}"
    each += f" x {plan.processes} processes" if plan.processes > 1 else ""
    return each + (f" x {plan.accumulation} accumulated" if plan.accumulation > 1 else "")


def _batch_problems(figures: Figures) -> Iterator[Problem]:
    found, plan = figures.batches, figures.plan
    batch, size = plan.batch_size * plan.processes, f"trainer.per_device_train_batch_size {plan.batch_size}"
    size += f" on {plan.processes} processes" if plan.processes > 1 else ""
    if not found.batches:
        what = f"{size}: sampler {plan.sampler} makes no batch of {found.rows:,} rows{_why(figures)}"
        remedy = f"set it lower, or {_less_sharing(plan)}" if found.announced else "set it lower"
        yield Problem("no-batches", what, "at least one batch an epoch", remedy)
        return
    if batch > found.rows:
        what = f"{size}: the data has {found.rows:,} rows"
        yield Problem("batch-size", what, f"up to {found.rows:,}", "set it lower")
    empty = [name for name, count in found.of_parts.items() if not count]
    if empty:
        what = f"{size}: no batch comes from data set {', '.join(empty)}"
        yield Problem("no-batches", what, "at least one from each", "set it lower, or leave the data set out")
    if found.unused_share > UNUSED and batch <= found.rows:
        what = f"{found.unused:,.0f} of {found.rows:,} rows ({found.unused_share:.1%}) are unused in an epoch"
        what = f"sampler {plan.sampler}: {what}{_why(figures)}"
        yield Problem("unused-rows", what, f"up to {UNUSED:.0%}", _less_sharing(plan))
    if found.sampler_seconds > SLOW_SECONDS:
        what = f"sampler {plan.sampler}: takes at least {found.sampler_seconds / 3600:,.1f} hours an epoch by itself"
        what += f", to find rows without a common text{_why(figures)}"
        faster = BatchSamplers.NO_DUPLICATES_HASHED.value
        hashes = "" if plan.sampler == faster else f" (or {faster!r}, about 10 times as fast)"
        yield Problem("slow-sampler", what, f"up to {SLOW_SECONDS // 60} minutes", _less_sharing(plan) + hashes)


def _batch_warnings(figures: Figures) -> Iterator[str]:
    found, plan = figures.batches, figures.plan
    if found.batches and found.steps < found.planned_steps:
        yield (
            f"training ends after {found.steps:,} of {found.planned_steps:,} planned steps, so the learning rate never "
            "reaches its end: the sampler gives fewer batches than it announces"
        )
    if UNUSED_WARNED < found.unused_share <= UNUSED:
        yield f"{found.unused_share:.1%} of the rows are unused in an epoch{_why(figures)}"
    repeats = any(each.repeated_queries or each.shared for each in figures.texts.values())
    if plan.in_batch_negatives and plan.sampler not in _WITHOUT_DUPLICATES and repeats:
        yield (
            f"loss {plan.loss} takes the other rows' passages as negatives and sampler {plan.sampler} lets the same "
            f"text into a batch twice: set trainer.batch_sampler = {_WITHOUT_DUPLICATES[0]!r}"
        )
    if not found.exact:
        yield f"batches are estimated: sampler {plan.sampler} was iterated for {BUDGET_S:.0f} s and not to its end"


def _why(figures: Figures) -> str:
    """The text that keeps rows apart."""
    most = max(figures.texts.values(), key=lambda each: each.most_used / max(each.rows, 1), default=None)
    if figures.plan.sampler not in _WITHOUT_DUPLICATES or most is None or most.most_used < 2:  # noqa: PLR2004
        return ""
    return (
        f" (no text may stand twice in a batch; there are {most.negatives:,} distinct negatives, and one stands in "
        f"{most.most_used:,} rows)"
    )


def _less_sharing(plan: Plan) -> str:
    if plan.sampler not in _WITHOUT_DUPLICATES:
        return "set trainer.per_device_train_batch_size lower"
    return f"{_FEWER_USES}, or set a smaller batch, or trainer.batch_sampler = {BatchSamplers.BATCH_SAMPLER.value!r}"


def _text_problems(where: str, found: Texts) -> Iterator[Problem]:
    remedy = "drop these rows (counted from 0), or build the data set again"
    if found.blanks:
        rows = "; ".join(f"{name}: rows {', '.join(map(str, places))}" for name, places in found.blank.items())
        more = ", ..." if found.blanks > sum(map(len, found.blank.values())) else ""
        yield Problem("empty-text", f"{where}{found.blanks:,} texts are empty ({rows}{more})", "none", remedy)
    if found.positives_as_negatives:
        rows = ", ".join(map(str, found.positive_as_negative))
        more = ", ..." if found.positives_as_negatives > len(found.positive_as_negative) else ""
        what = f"{where}{found.positives_as_negatives:,} rows have their positive as a negative, case and white space"
        yield Problem("positive-as-negative", f"{what} aside (rows {rows}{more})", "none", remedy)


def _where(figures: Figures, name: str) -> str:
    return f"data set {name}: " if len(figures.texts) > 1 else ""


def _names(names: Sequence[str]) -> str:
    return words.listed(names, _MOST_NAMES) or "none"


def _size(n_bytes: float) -> str:
    """A number of bytes in a unit that reads well.

    >>> _size(90_900_000), _size(6_500_000_000)
    ('91 MB', '6.5 GB')
    """
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"  # noqa: PLR2004
