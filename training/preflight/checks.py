"""The checks: each looks at the figures of a report and adds its lines, problems and warnings."""

from collections.abc import Iterator, Sequence

from sentence_transformers.base.sampler import BatchSamplers

from foils import words
from training.preflight.batches import BUDGET_S
from training.preflight.findings import Figures, Plan, Problem, Report

UNUSED, UNUSED_WARNED = 0.5, 0.05
"""Shares of rows that the sampler leaves out of an epoch: refused above, warned of above."""
REUSED, REUSED_WARNED, FEWEST = 0.05, 0.01, 20
"""Shares of rows with the same negative: refused above, warned of above, from `FEWEST` rows on."""
CUT_WARNED = 0.2
UNKNOWN_WARNED = 0.05
TIGHT = 0.8
_WITHOUT_DUPLICATES = (BatchSamplers.NO_DUPLICATES.value, BatchSamplers.NO_DUPLICATES_HASHED.value)
_FEWER_USES = "build with fewer uses of a negative (the selection rule max_uses)"
_MOST_COLUMNS, _MOST_PARTS, _MOST_NAMES = 8, 4, 6


def batches(report: Report) -> None:
    """Checks how many batches and steps there are, and how many rows they use."""
    figures, plan, found = report.figures, report.figures.plan, report.figures.batches
    each = f"{plan.batch_size}" + (f" x {plan.processes} processes" if plan.processes > 1 else "")
    each += f" x {plan.accumulation} accumulated" if plan.accumulation > 1 else ""
    if figures.streamed is not None:
        report.lines.append(("data", f"streamed, of unknown size; below: its first {figures.streamed:,} rows"))
        report.lines.append(("batches", f"of {each}; {found.steps:,} steps"))
        return
    parts = f" in {len(found.of_parts)} data sets" if len(found.of_parts) > 1 else ""
    report.lines.append(("data", f"{found.rows:,} rows{parts}; base {plan.base}, loss {plan.loss}"))
    count = f"{'' if found.exact else 'about '}{found.batches:,}"
    count += f" ({found.announced:,} announced)" if found.announced != found.batches else ""
    steps = f"{found.steps:,} steps" + (
        f" of {found.planned_steps:,} planned" if found.steps != found.planned_steps else ""
    )
    report.lines.append(("batches", f"{count} of {each} an epoch; {found.epochs:,} epochs, {steps}"))
    again = f", {found.repeats:,.0f} used again" if found.repeats else ""
    unused = f"{found.unused:,.0f} rows unused an epoch ({found.unused_share:.1%})"
    report.lines.append(("", f"{unused}{again}; sampler {plan.sampler}"))
    if parts:
        counts = [f"{name} {count:,}" for name, count in found.of_parts.items()]
        report.lines.append(("", "; ".join(counts[:_MOST_PARTS])))
    report.problems += _batch_problems(figures)
    report.warnings += _batch_warnings(figures)


def room(report: Report) -> None:
    """Checks memory and disk."""
    memory, disk = report.figures.memory, report.figures.disk
    if memory is not None:
        parts = {"gradients": memory.gradients, "optimiser": memory.optimiser, "activations": memory.activations}
        each = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
        free = f"({memory.device}, {_size(memory.free)} free)"
        report.lines.append(("memory", f"about {_size(memory.need)} more {free}: {each}"))
        if memory.need > memory.free:
            found = f"a step takes about {memory.need / 1e9:,.1f} GB more on each process"
            remedy = (
                "set trainer.per_device_train_batch_size lower and trainer.gradient_accumulation_steps higher, or use "
                "a cached loss, trainer.gradient_checkpointing or a smaller max_seq_length"
            )
            allowed = f"{memory.free / 1e9:,.1f} GB, which are free ({memory.device})"
            report.problems.append(Problem("memory", found, allowed, remedy))
        elif memory.need > TIGHT * memory.free:
            report.warnings.append(f"a step takes about {memory.need / memory.free:.0%} of the memory that is free")
    kept = f" + {disk.checkpoints} checkpoints of {_size(disk.checkpoint)}" if disk.checkpoints else ""
    report.lines.append(("disk", f"model {_size(disk.model)}{kept}; {_size(disk.free)} free"))
    if disk.need > disk.free:
        found = f"model and {disk.checkpoints} checkpoints take {disk.need / 1e9:,.1f} GB"
        remedy = "free some, give --out on another disk, or set trainer.save_total_limit lower"
        report.problems.append(Problem("disk", found, f"{disk.free / 1e9:,.1f} GB, which are free", remedy))


def tokens(report: Report) -> None:
    """Checks how long texts are, and shows what the model reads."""
    figures, limit = report.figures, report.figures.plan.max_seq_length
    lengths = [(name, each) for name, columns in figures.tokens.items() for each in columns]
    if not lengths:
        return
    rows = [["column", "p50", "p95", "longest", "cut", "prompt"]]
    for name, each in lengths[:_MOST_COLUMNS]:
        title = f"{name}: {each.column}" if len(figures.tokens) > 1 else each.column
        prompt = figures.plan.prompts.get(each.column, "")
        numbers = [f"{each.p50:,}", f"{each.p95:,}", f"{each.longest:,}", f"{each.cut:.1%}"]
        rows.append([title, *numbers, repr(prompt) if prompt else "none"])
    table = words.table(rows, left=(0, 5))
    table[0] += f"   (of {lengths[0][1].counted:,} rows; reads {limit:,})" if limit else ""
    table += [f"and {len(lengths) - _MOST_COLUMNS} more columns"] if len(lengths) > _MOST_COLUMNS else []
    report.lines += zip(["tokens", *[""] * (len(table) - 1)], table, strict=True)
    report.lines += [("" if number else "reads", each.read) for number, (_, each) in enumerate(lengths[:2])]
    for name, columns in figures.tokens.items():
        cut = [f"{each.column} {each.cut:.0%}" for each in columns if each.cut > CUT_WARNED]
        where = f"{_where(figures, name)}texts are cut at {limit} tokens: "
        report.warnings += [f"{where}{', '.join(cut)}; set max_seq_length higher if their ends matter"] if cut else []
        unknown = [f"{each.unknown:.0%} of {each.column}" for each in columns if each.unknown > UNKNOWN_WARNED]
        if unknown:
            what = f"base {figures.plan.base} does not know {', '.join(unknown)} (of the tokens)"
            report.warnings.append(
                f"{_where(figures, name)}{what}: it cannot read their language; name a base that was trained on it"
            )


def texts(report: Report) -> None:
    """Checks positives among the negatives, and negatives that many rows have."""
    tables = report.figures.texts
    for name, found in tables.items():
        where, share = _where(report.figures, name), found.most_used / max(found.rows, 1)
        line = f"{found.repeated_queries:,} repeated queries"
        if found.negatives:
            line += f"; {found.negatives:,} distinct negatives, the most used in {found.most_used:,} rows"
            line += f"; {found.shared / found.rows:.1%} of rows share one"
        report.lines.append((f"texts ({name})" if len(tables) > 1 else "texts", line))
        if found.positives_as_negatives:
            places = ", ".join(map(str, found.positive_as_negative))
            places += ", ..." if found.positives_as_negatives > len(found.positive_as_negative) else ""
            count = f"{where}{found.positives_as_negatives:,} rows have their positive as a negative, case and white"
            remedy = "drop these rows (counted from 0), or build the data set again"
            report.problems.append(
                Problem("positive-as-negative", f"{count} space aside (rows {places})", "none", remedy)
            )
        if found.most_used >= FEWEST and share > REUSED_WARNED:
            reused = f"{where}one negative stands in {found.most_used:,} of {found.rows:,} rows ({share:.1%}): "
            reused += repr(found.most_used_text)
            if share > REUSED:
                report.problems.append(Problem("reused-negatives", reused, f"up to {REUSED:.0%}", _FEWER_USES))
            else:
                report.warnings.append(reused)


def overlap(report: Report) -> None:
    """Reports which evaluation sets data and base have seen."""
    seen = report.figures.seen
    if seen is None:
        return
    line = "the data was not compared with any evaluation set: nothing is known"
    if seen.data is not None:
        line = f"with {_names(seen.data)}; compared with {_names(seen.compared_with)}"
    base = "not known" if seen.base is None else _names(seen.base)
    report.lines += [("overlap", line), ("", f"evaluation sets that the base was trained on: {base}")]


def positions(report: Report, most: int | None) -> None:
    """Checks whether texts would be longer than the positions that a base has learnt; None for no limit."""
    limit, base = report.figures.plan.max_seq_length, report.figures.plan.base
    if limit is not None and most is not None and limit > most:
        found = f"max_seq_length {limit}: base {base} has {most} positions"
        report.problems.append(Problem("positions", found, f"up to {most}", "set it lower"))


ALL = (batches, room, tokens, texts, overlap)


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
        took = words.duration(found.sampler_seconds)
        yield (
            f"batches are estimated from {BUDGET_S:.0f} s of sampler {plan.sampler}, which takes at least {took} an "
            f"epoch{_why(figures)}"
        )


def _why(figures: Figures) -> str:
    """The text that keeps rows apart."""
    most = max(figures.texts.values(), key=lambda each: each.most_used / max(each.rows, 1), default=None)
    if figures.plan.sampler not in _WITHOUT_DUPLICATES or most is None or most.most_used <= 1:
        return ""
    return (
        f" (no text may stand twice in a batch; there are {most.negatives:,} distinct negatives, and one stands in "
        f"{most.most_used:,} rows)"
    )


def _less_sharing(plan: Plan) -> str:
    if plan.sampler not in _WITHOUT_DUPLICATES:
        return "set trainer.per_device_train_batch_size lower"
    return f"{_FEWER_USES}, or set a smaller batch, or trainer.batch_sampler = {BatchSamplers.BATCH_SAMPLER.value!r}"


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
