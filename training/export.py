"""Writes a trained model in ONNX's and OpenVINO's form beside its weights, and measures what that does to its scores.

    python -m training.export FOLDER --to onnx,onnx-int8,openvino,openvino-int8 [--dataset FOLDER|OWNER/NAME@REVISION]

A retriever's file gives the finished embedding, so that ONNX Runtime or OpenVINO, the tokenizer and numpy suffice; the
card shows how. Texts to calibrate and measure with are the training rows', found again by the run record, or those of
`--dataset`. Run again, it replaces what it wrote.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec
from sentence_transformers import CrossEncoder

from cards.model import merge_model_cards, model_card
from cards.publish.files import CARD, write_files
from foils.encode.convert import FILES, PACKAGES, Format, convert, load, parts_of
from foils.encode.drift import Texts, compare, in_torch, sample_texts, score
from foils.encode.runtimes import runner
from foils.errors import UserError, run_entry
from foils.provenance import sha256_file
from training.publish import RUN_RECORD, finished_record
from training.rows.ingredients import load_rows
from training.rows.source import resolve

logger = logging.getLogger(__name__)


def export(folder: Path, formats: Sequence[Format], texts: Texts) -> list[dict[str, Any]]:
    """Writes a model in other formats, each complete or absent, and measures each against fp32 torch.

    Returns:
        For the run record's `exports`, one for each format: `format`, `file`, `mb`, how texts are read (`max_length`,
        `pad_id`, `pad_token`, `padding_side`, `query_prompt`, `passage_prompt`), of a retriever how its embeddings are
        compared (`truncate_dim`, `similarity`), and the figures of `foils.records.Drift`.

    Raises:
        UserError: a package is missing, or the model cannot be converted.
    """
    for name in formats:
        missing = [package for package in PACKAGES[name] if find_spec(package) is None]
        if missing:
            raise UserError(
                f"export {name}: not installed: {', '.join(missing)}; run: pip install {' '.join(missing)} "
                "(or pip install -e '.[fast,int8]')"
            )
    model = load(folder)
    reading = {
        "max_length": model.max_seq_length,
        "pad_id": model.tokenizer.pad_token_id,
        "pad_token": model.tokenizer.pad_token,
        "query_prompt": model.prompts.get("query", ""),
        "passage_prompt": model.prompts.get("document", ""),
        "padding_side": model.tokenizer.padding_side,
    }
    if not isinstance(model, CrossEncoder):
        reading |= {"truncate_dim": model.truncate_dim, "similarity": model.similarity_fn_name}
    reference = score(model, in_torch(model), texts)
    records = []
    with TemporaryDirectory(dir=folder, prefix=".exporting-") as scratch:
        for name in dict.fromkeys(formats):
            logger.info("converting to %s", name)
            file = convert(model, name, Path(scratch), texts)
            measured = compare(reference, score(model, runner(name, file), texts))
            logger.info("%s: %s", name, measured.line())
            size = sum(part.stat().st_size for part in parts_of(file))
            figures = msgspec.to_builtins(measured)
            records.append({"format": name, "file": FILES[name], "mb": round(size / 1e6, 1), **reading, **figures})
        for name in dict.fromkeys(formats):
            target = folder / FILES[name]
            target.parent.mkdir(exist_ok=True)
            for part in parts_of(Path(scratch) / FILES[name]):
                part.replace(target.with_name(part.name))
    return records


def main(folder: Path, formats: Sequence[Format], dataset: str | None = None) -> None:
    """Adds formats to a model that training/train.py wrote: files, run record and card.

    Raises:
        UserError: the folder holds no finished run, its rows cannot be found, or the model cannot be converted.
    """
    record = finished_record(folder)
    trained_on = record["dataset"]
    if dataset is None and trained_on.get("tag") is None:
        raise UserError(
            f"export: the model was trained on a folder, {trained_on['name']}; name it with --dataset FOLDER"
        )
    location, _, revision = (dataset or f"{trained_on['name']}@{trained_on['revision']}").partition("@")
    rows = load_rows(resolve(location, revision or None), trained_on["kind"])
    fresh = export(folder, formats, sample_texts(rows))
    names = {each["format"] for each in fresh}
    record["exports"] = [*(each for each in record.get("exports", []) if each["format"] not in names), *fresh]
    written = [part for each in fresh for part in parts_of(folder / each["file"])]
    record["files"] |= {part.relative_to(folder).as_posix(): sha256_file(part) for part in written}
    card = folder / CARD
    existing = card.read_text("utf-8") if card.exists() else ""
    merged = merge_model_cards(model_card(record, None, None), existing, record["model"]["revision"])
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_files(folder, {RUN_RECORD: text.encode(), CARD: merged.encode()})
    logger.info("%s: %s written, with their figures in run record and card", folder, ", ".join(names))


def _formats(text: str) -> list[Format]:
    """Names that stand between commas.

    >>> _formats("onnx,openvino-int8")
    ['onnx', 'openvino-int8']
    """
    known: tuple[Format, ...] = get_args(Format)
    wanted = [part.strip() for part in text.split(",")]
    unknown = [part for part in wanted if part not in known]
    if unknown:
        raise UserError(f"--to {text}: unknown: {', '.join(unknown)}; allowed: {', '.join(known)}, between commas")
    return [name for name in known if name in wanted]


def _entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a model that training/train.py wrote")
    parser.add_argument("--to", required=True, metavar="FORMATS", help=f"of {', '.join(get_args(Format))}")
    parser.add_argument("--dataset", help="the training data's folder, or OWNER/NAME@REVISION")
    arguments = parser.parse_args()
    main(arguments.folder, _formats(arguments.to), arguments.dataset)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
