"""Whether a base can be trained as an embedding model or reranker at all, from its files, before it is loaded."""

import json
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from cards.errors import UserError
from cards.models import ModelReference
from training.preflight.findings import Problem

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
ALLOWED = "an encoder (BERT, MPNet, ModernBERT, ... with a tokenizer), or an embedding model with modules.json"
_DECODERS = ("ForCausalLM", "LMHeadModel")
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
# Encoder and decoder, of which sentence-transformers loads the encoder alone.
_ENCODERS_OF_TWO = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "m2m_100", "marian", "pegasus")
_MODEL_TYPES = {"CrossEncoder": "a reranker", "SparseEncoder": "a sparse encoder", "MultiVectorEncoder": "a ColBERT"}


def examined(base: ModelReference, task: str) -> list[Problem]:
    """What speaks against a base.

    A decoder, a reranker or a classifier would be loaded without its head, given mean pooling and trained, with a
    warning at most.

    Args:
        base: its folder is read.
        task: `retriever` or `cross-encoder`.
    """
    folder = Path(base.location)
    found = _incomplete(folder) or _not_an_encoder(folder, task)
    if found is not None:
        remedy = (
            "name such a base, or train one with task = 'cross-encoder'" if "reranker" in found else "name another base"
        )
        return [Problem("base", f"base {base.name}: is {found}", ALLOWED, remedy)]
    if not any(any(folder.rglob(name)) for name in TOKENIZERS):
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        remedy = "save its tokenizer beside it (tokenizer.save_pretrained(FOLDER))"
        return [Problem("base", f"base {base.name}: has no tokenizer; it holds {held}", ALLOWED, remedy)]
    return []


def check_loaded(model: Any, name: str) -> None:
    """Refuses a loaded base whose tokenizer cannot serve it.

    Raises:
        UserError: it cannot pad, or knows tokens that the base has no embeddings for.
    """
    for part in model.modules():
        tokenizer, network = (getattr(part, each, None) for each in ("tokenizer", "auto_model"))
        if tokenizer is None or network is None:
            continue
        if getattr(tokenizer, "pad_token", "") is None:
            raise UserError(
                f"base {name}: its tokenizer has no pad token, so texts of different lengths make no batch; set one "
                "(tokenizer.pad_token = tokenizer.eos_token) and save it beside the base"
            )
        rows = network.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise UserError(
                f"base {name}: its tokenizer has {len(tokenizer)} tokens and the base {rows} embeddings; run "
                "model.resize_token_embeddings(len(tokenizer)) and save both, or save the base's own tokenizer"
            )


def _not_an_encoder(folder: Path, task: str) -> str | None:
    """What a base is, if it is nothing to train for the task."""
    kind = _read(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if task == "retriever" and kind in _MODEL_TYPES:
        return f"{_MODEL_TYPES[kind]} (model_type {kind} in config_sentence_transformers.json)"
    if (folder / "modules.json").exists():  # somebody made it an embedding model, of whatever architecture
        return None
    config = _read(folder / "config.json")
    architectures = ", ".join(config.get("architectures") or []) or "no architecture"
    model_type = str(config.get("model_type", "none"))
    told = f"{architectures} (model_type {model_type} in config.json)"
    masked = model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.get("is_decoder") or (architectures.endswith(_DECODERS) and not masked):
        return f"a decoder, which reads a text from left to right only: {told}"
    if task == "retriever" and architectures.endswith(_CLASSIFIERS):
        return f"a reranker or classifier, whose head would be thrown away: {told}"
    if model_type in _ENCODERS_OF_TWO or (masked and not config.get("is_encoder_decoder")):
        return None
    return f"no encoder of text that transformers knows: {told}"


def _incomplete(folder: Path) -> str | None:
    """What a base needs beside its weights: those of another model, or Python files, which are never run."""
    adapter = next(folder.glob("**/adapter_config.json"), None)
    if adapter is not None:
        return f"an adapter ({adapter.relative_to(folder)}) and no whole model; merge it into its base and save that"
    for file in sorted(folder.glob("**/config.json")):
        config = _read(file)
        if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING:
            name = file.relative_to(folder)
            return f"a model with code of its own (auto_map in {name}), which is never run"
    for module in _modules(folder):
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            return f"a model with code of its own ({module.get('type')} in modules.json), which is never run"
    return None


def _modules(folder: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads((folder / "modules.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [module for module in found if isinstance(module, dict)] if isinstance(found, list) else []


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content
