"""What pre-flight found: for the run record, as a table, and as a refusal."""

from collections.abc import Collection, Iterator

from msgspec import Struct

from foils.errors import UserError
from training.preflight.batches import Batches
from training.preflight.disk import Disk
from training.preflight.findings import Judgement, Notice, Problem
from training.preflight.memory import Memory
from training.preflight.texts import Texts
from training.preflight.tokens import Lengths
from training.seen import Seen

_LABEL = 10


class Plan(Struct, frozen=True):
    """What the table says about the recipe itself.

    Attributes:
        base: its name.
        sampler: of batches.
        batch_size: of one process.
        processes: that train.
        accumulation: batches to a step.
        max_seq_length: tokens that are read; None without a limit.
        loss: its name.
        prompts: column -> prompt.
    """

    base: str
    sampler: str
    batch_size: int
    processes: int
    accumulation: int
    max_seq_length: int | None
    loss: str
    prompts: dict[str, str]


class Report(Struct, frozen=True):
    """All that pre-flight found; `msgspec.to_builtins` gives what the run record holds.

    Attributes:
        plan: what was asked for.
        batches: and steps.
        memory: None where nothing is known of the texts' lengths.
        disk: for model and checkpoints.
        tokens: data set -> a column each.
        texts: data set -> what its texts say.
        seen: what is known of overlap with evaluation sets; None where nobody asked.
        warnings: to know.
        problems: to solve.
        streamed: rows that were looked at where the data is streamed and its size unknown; None where it is not.
    """

    plan: Plan
    batches: Batches
    memory: Memory | None
    disk: Disk
    tokens: dict[str, list[Lengths]]
    texts: dict[str, Texts]
    seen: Seen | None
    warnings: list[Notice]
    problems: list[Problem]
    streamed: int | None = None


def refuse(report: Report, allowed: Collection[Judgement] = ()) -> None:
    """Refuses what must not be trained with.

    Args:
        report: what pre-flight found.
        allowed: the recipe's `allow`: keys of problems that are a matter of judgement.

    Raises:
        UserError: there are problems; all of them, one line each.
    """
    left = [problem for problem in report.problems if problem.key not in allowed]
    if left:
        raise UserError("\n".join(["pre-flight: not started:", *(f"  {_with_key(problem)}" for problem in left)]))


def _with_key(problem: Problem) -> str:
    may = problem.key in Judgement.__args__  # type: ignore[attr-defined]
    return f"{problem.line}, or set allow = [{problem.key!r}]" if may else problem.line


def table(report: Report) -> str:
    """The report for the terminal, some 20 lines."""
    lines = [*_batches(report), *_resources(report), *_tokens(report), *_texts(report), *_seen(report.seen)]
    lines += [("warning", notice.line) for notice in report.warnings]
    lines += [("problem", " ".join(problem.found.split())) for problem in report.problems]
    return "\n".join(f"{label:<{_LABEL}}{text}".rstrip() for label, text in lines)


def _batches(report: Report) -> Iterator[tuple[str, str]]:
    found, plan = report.batches, report.plan
    if report.streamed is not None:
        yield "data", f"streamed, of unknown size; below: its first {report.streamed:,} rows"
    else:
        parts = f" in {len(found.of_parts)} data sets" if len(found.of_parts) > 1 else ""
        yield "data", f"{found.rows:,} rows{parts}; base {plan.base}, loss {plan.loss}"
    each = f"{plan.batch_size}"
    each += f" x {plan.processes} processes" if plan.processes > 1 else ""
    each += f" x {plan.accumulation} accumulated" if plan.accumulation > 1 else ""
    about = "" if found.exact else "about "
    count = "?" if found.batches is None else f"{found.batches:,}"
    short = f" ({found.announced:,} announced)" if found.announced not in (None, found.batches) else ""
    planned = f" of {found.planned_steps:,} planned" if found.steps != found.planned_steps else ""
    yield (
        "batches",
        f"{about}{count}{short} of {each} an epoch; {found.epochs:,} epochs, {found.steps:,} steps{planned}",
    )
    if report.streamed is None:
        again = f", {found.repeats:,.0f} used again" if found.repeats else ""
        yield "", f"{found.unused:,.0f} rows unused an epoch ({found.unused_share:.1%}){again}; sampler {plan.sampler}"
    if len(found.of_parts) > 1:
        yield "", "; ".join(f"{name} {count:,}" for name, count in list(found.of_parts.items())[:4])


def _resources(report: Report) -> Iterator[tuple[str, str]]:
    memory, disk = report.memory, report.disk
    if memory is not None:
        parts = {"gradients": memory.gradients, "optimiser": memory.optimiser, "activations": memory.activations}
        told = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
        yield "memory", f"about {_size(memory.need)} more ({memory.device}, {_size(memory.free)} free): {told}"
    kept = f" + {disk.checkpoints} checkpoints of {_size(disk.checkpoint)}" if disk.checkpoints else ""
    yield "disk", f"model {_size(disk.model)}{kept}; {_size(disk.free)} free"


def _tokens(report: Report) -> Iterator[tuple[str, str]]:
    lengths = [(name, each) for name, columns in report.tokens.items() for each in columns]
    if not lengths:
        return
    several = len(report.tokens) > 1
    rows = [["column", "p50", "p95", "longest", "cut", "prompt"]]
    for name, each in lengths[:8]:
        title = f"{name}: {each.column}" if several else each.column
        prompt = report.plan.prompts.get(each.column, "")
        figures = [f"{each.p50:,}", f"{each.p95:,}", f"{each.longest:,}", f"{each.cut:.1%}"]
        rows.append([title, *figures, repr(prompt) if prompt else "none"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    limit = report.plan.max_seq_length
    for number, row in enumerate(rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True)),
        ]
        read = f"   (of {lengths[0][1].counted:,} rows; reads {limit:,})" if limit else ""
        yield ("tokens" if not number else ""), "  ".join([*cells, row[5]]) + ("" if number else read)
    if len(lengths) > 8:  # noqa: PLR2004 - more make no table
        yield "", f"and {len(lengths) - 8} more columns"
    for number, (_, each) in enumerate(lengths[:2]):
        yield ("reads" if not number else ""), each.read


def _texts(report: Report) -> Iterator[tuple[str, str]]:
    for name, found in list(report.texts.items())[:3]:
        of = f" ({name})" if len(report.texts) > 1 else ""
        told = [f"{found.repeated_queries:,} repeated queries"]
        if found.negatives:
            told.append(
                f"{found.negatives:,} distinct negatives, the most used in {found.most_used:,} rows; "
                f"{_share(found.shared, found.rows)} of rows share one"
            )
        yield f"texts{of}", "; ".join(told)


def _seen(seen: Seen | None) -> Iterator[tuple[str, str]]:
    if seen is None:
        return
    if seen.data is None:
        yield "overlap", "the data was not compared with any evaluation set: nothing is known"
    else:
        compared = _names(seen.compared_with) or "none"
        yield "overlap", f"with {_names(seen.data) or 'none'}; compared with {compared}"
    base = "not known" if seen.base is None else _names(seen.base) or "none"
    yield "", f"evaluation sets that the base was trained on: {base}"


def _names(names: Collection[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""  # noqa: PLR2004
    return ", ".join(listed[:6]) + more


def _size(n_bytes: float) -> str:
    """Bytes in a unit that reads well.

    >>> _size(90_900_000), _size(6_500_000_000)
    ('91 MB', '6.5 GB')
    """
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"  # noqa: PLR2004


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "0 %"
