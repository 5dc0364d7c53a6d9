"""How a model reads the texts: tokens with prompt and special tokens, texts that are cut, prompts that are missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from datasets import Dataset
from msgspec import Struct
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer

from foils import words
from training.preflight.report import Problem, Report
from training.preflight.texts import text_columns
from training.rows.seen import registered

SAMPLE = 1_500
"""Rows whose tokens are counted; a share of them is off by 2.5 percentage points at most, 19 times out of 20."""
LONGEST = 5
CUT_WARNED, UNKNOWN_WARNED = 0.2, 0.05
"""Shares of texts that are cut, and of tokens that the base does not know, above which a column is warned of."""
_MOST_COLUMNS = 8
_QUERY_NAMES, _PASSAGE_NAMES = ("query", "s2p_query", "search_query"), ("document", "passage", "search_document")
_LONGEST_CHARACTERS = 1_000_000
_NEVER_CUT = 1_000_000
"""Tokenizers without a length say 10^30."""
_READ = 78


class Lengths(Struct, frozen=True):
    """Tokens of a column's texts; for a cross-encoder, of a pair's.

    Attributes:
        counted: texts of the sample.
        mean: of the tokens that are read, without those behind the cut.
        longest: of the sample and of the column's five longest texts by bytes.
        cut: the share of texts that are longer than the model reads, 0 to 1.
        unknown: the share of tokens that the tokenizer has no token for, 0 to 1.
        read: what the model reads of the first row.
    """

    column: str
    counted: int
    p50: int
    p95: int
    mean: float
    longest: int
    cut: float
    unknown: float
    read: str


def counted(rows: Dataset, model: Any, prompts: Mapping[str, str], seed: int) -> list[Lengths]:
    """Counts the tokens of rows drawn at random, with the `prompts` of their columns.

    A SentenceTransformer reads columns one by one, a CrossEncoder the first two together.
    """
    if not len(rows):
        return []
    places = np.arange(len(rows))
    if len(rows) > SAMPLE:
        places = np.sort(np.random.default_rng(seed).choice(len(rows), SAMPLE, replace=False))
    columns = text_columns(rows)
    together = [columns[:2]] if isinstance(model, CrossEncoder) else [[name] for name in columns]
    return [_lengths(rows, names, model, prompts.get(names[0], ""), places) for names in together]


def check(report: Report, lengths: Mapping[str, Sequence[Lengths]], positions: int | None) -> None:
    """Checks how long texts are, against the model's positions too (None for any), and shows what the model reads."""
    plan, limit, report.figures["tokens"] = report.plan, report.plan.max_seq_length, lengths
    columns = [(f"{name}: " if len(lengths) > 1 else "", each) for name, some in lengths.items() for each in some]
    rows = [["column", "p50", "p95", "longest", "cut", "prompt"]]
    for name, each in columns[:_MOST_COLUMNS]:
        numbers = [f"{each.p50:,}", f"{each.p95:,}", f"{each.longest:,}", f"{each.cut:.1%}"]
        prompt = plan.prompts.get(each.column)
        rows.append([name + each.column, *numbers, repr(prompt) if prompt else "none"])
    if columns:
        table = words.table(rows, left=(0, 5))
        table[0] += f"   (of {columns[0][1].counted:,} rows; reads {limit:,})" if limit else ""
        table += [f"and {len(columns) - _MOST_COLUMNS} more columns"] if len(columns) > _MOST_COLUMNS else []
        report.lines += zip(["tokens", *[""] * (len(table) - 1)], table, strict=True)
        report.lines += zip(["reads", ""], [each.read for _, each in columns[:2]], strict=False)
    for name, some in lengths.items():
        where = f"data set {name}: " if len(lengths) > 1 else ""
        cut = ", ".join(f"{each.column} {each.cut:.0%}" for each in some if each.cut > CUT_WARNED)
        unknown = ", ".join(f"{each.unknown:.0%} of {each.column}" for each in some if each.unknown > UNKNOWN_WARNED)
        if cut:
            report.warnings.append(
                f"{where}texts are cut at {limit} tokens: {cut}; set max_seq_length higher if their ends matter"
            )
        if unknown:
            report.warnings.append(
                f"{where}base {plan.base} does not know {unknown} (of the tokens): it cannot read their language; name "
                "a base that was trained on it"
            )
    if limit is not None and positions is not None and limit > positions:
        found = f"max_seq_length {limit}: base {plan.base} has {positions} positions"
        report.problems.append(Problem("positions", found, f"up to {positions}", "set it lower"))


def check_prompts(report: Report, model: Any) -> None:
    """Warns where a base was trained with prompts and the recipe leaves them out.

    mteb's registry knows those of published models; other bases may have some in their own configuration.
    """
    if isinstance(model, CrossEncoder):
        return
    base, own, source = report.plan.base, model.prompts, "the base's config_sentence_transformers.json"
    meta = registered(base)
    if meta is not None and (prompts := (meta.loader_kwargs or {}).get("model_prompts")):
        own, source = prompts, str(meta.reference)
    query, passage = (next((own[n] for n in names if own.get(n)), "") for names in (_QUERY_NAMES, _PASSAGE_NAMES))
    passages = [text for column, text in report.plan.prompts.items() if column != "query"]
    advice = [f"query_prompt = {query!r}"] if query and not report.plan.prompts.get("query") else []
    advice += [f"passage_prompt = {passage!r}"] if passage and not (passages and all(passages)) else []
    if advice:
        report.warnings.append(
            f"base {base}: was trained with prompts and the recipe sets none; set {' and '.join(advice)} (see {source})"
        )


def limit_of(model: Any) -> int | None:
    """The tokens that a model reads of a text; None without a limit."""
    limit = model.max_seq_length
    return int(limit) if limit is not None and limit < _NEVER_CUT else None


def positions_of(model: Any) -> int | None:
    """The tokens that a model has learnt positions for; None where they are relative or rotary.

    RoBERTa's and MPNet's tables of positions start behind the padding's, so the last two cannot be used.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            behind = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings - behind)
    return None


def _lengths(rows: Dataset, names: Sequence[str], model: Any, prompt: str, places: npt.NDArray[np.int64]) -> Lengths:
    limit, sizes = limit_of(model), sum(_bytes(rows, name) for name in names)
    chosen = rows.select(np.concatenate([places, np.argsort(sizes)[-LONGEST:]]))
    texts = [[(text or "")[:_LONGEST_CHARACTERS] for text in chosen[name]] for name in names]
    texts[0] = [prompt + text for text in texts[0]]
    every = _ids(model.tokenizer, texts)
    ids = every[: len(places)]
    found = np.array([len(each) for each in ids])
    p50, p95 = np.percentile(found, [50, 95], method="inverted_cdf")
    return Lengths(
        column="+".join(names),
        counted=len(found),
        p50=int(p50),
        p95=int(p95),
        mean=round(float(np.minimum(found, limit or found).mean()), 1),
        longest=max(map(len, every)),
        cut=float((found > limit).mean()) if limit else 0.0,
        unknown=_unknown(model.tokenizer, ids),
        read=_read(model.tokenizer, [column[0] for column in texts], limit),
    )


def _bytes(rows: Dataset, name: str) -> npt.NDArray[np.int64]:
    """The bytes of each text, `(n_rows,)`."""
    batches = rows.select_columns([name]).with_format("arrow").iter(10_000)
    return np.concatenate([pc.fill_null(pc.binary_length(batch[name]), 0).to_numpy() for batch in batches])


def _ids(tokenizer: Any, texts: Sequence[Sequence[str]]) -> list[list[int]]:
    """The tokens of each text, or pair of texts, uncut."""
    if isinstance(tokenizer, Tokenizer):  # of a static embedding, which adds no special tokens
        return [each.ids for each in tokenizer.encode_batch_fast(texts[0], add_special_tokens=False)]
    encoded = tokenizer(*texts, truncation=False, padding=False, return_attention_mask=False, verbose=False)
    return encoded["input_ids"]  # type: ignore[no-any-return]


def _unknown(tokenizer: Any, ids: Sequence[Sequence[int]]) -> float:
    """The share of unknown tokens among those of the texts themselves."""
    if isinstance(tokenizer, Tokenizer):
        name = getattr(tokenizer.model, "unk_token", None)
        unknown, special = tokenizer.token_to_id(name) if name else None, set[int]()
    else:
        unknown, special = tokenizer.unk_token_id, {*tokenizer.all_special_ids}
    others = set() if isinstance(tokenizer, Tokenizer) else {tokenizer.eos_token_id, tokenizer.pad_token_id}
    if unknown is None or unknown in others:  # it spells every text in bytes
        return 0.0
    tokens = np.concatenate([np.array(each, np.int64) for each in ids])
    count = int((tokens == unknown).sum())
    return count / max(count + int((~np.isin(tokens, [*special, unknown])).sum()), 1)


def _read(tokenizer: Any, texts: Sequence[str], limit: int | None) -> str:
    """The part of a text, or pair of texts, that is read, with special tokens, without its middle where it is long.

    Prompts stand at the start, separators at the end.
    """
    read = texts[0]
    if not isinstance(tokenizer, Tokenizer):
        cut = {"truncation": True, "max_length": limit} if limit else {}
        read = str(tokenizer.decode(tokenizer(*texts, verbose=False, **cut)["input_ids"]))
    read = " ".join(read.split())
    return read if len(read) <= _READ else f"{words.shortened(read, _READ - 20)} {read[-18:].lstrip()}"
