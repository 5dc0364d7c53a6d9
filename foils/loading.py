"""Models in fp32, whatever number format they are saved in, and of the kind that a step needs.

transformers loads a checkpoint in the format that it was saved in. Weights in fp16 or bf16 would then be trained in
half precision, and measured in it under the name fp32. So every model of the project is loaded here.
"""

import json
from pathlib import Path
from typing import Any, Literal

from foils.errors import UserError

PoolingMode = Literal["mean", "cls", "lasttoken"]
RETRIEVER = "SentenceTransformer"
RERANKER = "CrossEncoder"
_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.spm")
_OF_BYTES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")  # which need no file
_TRIED = {"encode_query": ["a", "b c"], "encode_document": ["a", "b c"], "predict": [("a", "b"), ("c", "d e")]}
_REASONS = {
    "remote_code": "it needs code of its own",
    "padding token": "it has no pad token; set tokenizer.pad_token and config.pad_token_id, and save both there",
    "mismatched_sizes": "its weights have other shapes than its config.json says",
}
_KINDS = {RERANKER: "a cross-encoder, which scores pairs", "SparseEncoder": "a sparse encoder"}


def load_retriever(
    location: str, pooling: str | None = None, instead: str = "name an embedding model", **settings: Any
) -> Any:
    """A `SentenceTransformer` with weights in fp32.

    Args:
        location: the model's folder.
        pooling: how token vectors become one, for a checkpoint that does not say it; without it, the library's choice.
        instead: the remedy where it is a model of another kind.
        settings: of `SentenceTransformer`.

    Raises:
        UserError: the folder holds a model of another kind.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    check_retriever(location, instead)
    loaded = in_fp32(SentenceTransformer, location, **settings)
    if pooling is not None and is_raw(location):
        loaded[1] = Pooling(loaded.get_embedding_dimension(), pooling)
    return loaded


def load_reranker(location: str, where: str, **settings: Any) -> Any:
    """A `CrossEncoder` with one trained score and weights in fp32, read from safetensors alone.

    Args:
        location: the model's folder.
        where: the key that names the model, for errors.
        settings: of `CrossEncoder`.

    Raises:
        UserError: the model has no trained head, or gives more than one score.
    """
    from sentence_transformers import CrossEncoder

    wanted = "wanted a model with one relevance score, such as cross-encoder/ms-marco-MiniLM-L6-v2"
    folder = Path(location)
    if _kind(folder) != RERANKER and not _architecture(folder).endswith("ForCausalLM"):
        # The library would give it a random head.
        raise UserError(f"{where}: not a cross-encoder: it has no trained head that scores pairs; {wanted}")
    loaded = in_fp32(CrossEncoder, location, {"use_safetensors": True}, **settings)
    if loaded.num_labels != 1:
        raise UserError(f"{where}: gives {loaded.num_labels} scores per pair; {wanted}")
    return loaded


def is_raw(location: str) -> bool:
    """Whether a folder holds a transformer alone, which does not say how it pools."""
    return not (Path(location) / "modules.json").exists()


def modules_of(location: str) -> list[str]:
    """The types of a sentence-transformers model's modules; none of a raw checkpoint."""
    listed = json_in(Path(location) / "modules.json") or []
    return [str(module.get("type", "")) for module in listed if isinstance(module, dict)]


def check_retriever(location: str, instead: str) -> None:
    """Refuses a model of another kind, which would be loaded with mean pooling and measured as if it embedded texts.

    Raises:
        UserError: says which kind it is, and of a cross-encoder `instead`.
    """
    kind = _kind(Path(location))
    if kind not in (RETRIEVER, None):
        remedy = instead if kind == RERANKER else "name an embedding model"
        raise UserError(f"model {location}: is {_KINDS.get(kind, f'a {kind}')}, and not an embedding model; {remedy}")


def check_tokenizer(location: str, where: str) -> None:
    """Refuses a transformer without its tokenizer: the library would make one that knows no word.

    Raises:
        UserError: `where`, and what the folder holds.
    """
    folder, (first, *_) = Path(location), [*modules_of(location), "Transformer"]
    of_bytes = json_object(folder / "tokenizer_config.json").get("tokenizer_class") in _OF_BYTES
    if first.endswith("Transformer") and not of_bytes and not any(any(folder.rglob(name)) for name in _TOKENIZERS):
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        remedy = "save it beside the weights (tokenizer.save_pretrained(FOLDER))"
        raise UserError(f"{where}: has no tokenizer; it holds {held}; {remedy}")


def in_fp32(kind: Any, location: str, model_kwargs: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A model of sentence-transformers, loaded in fp32 and tried on two texts; flash attention cannot be, in fp32.

    Raises:
        UserError: the library cannot load it, or cannot encode with it.
    """
    import torch

    check_tokenizer(location, f"model {location}")
    given = {"dtype": torch.float32, **(model_kwargs or {})}
    try:
        # The dtype covers what is computed while loading; other modules than transformers keep theirs until `float`.
        loaded = kind(location, model_kwargs=given, **settings).float()
        for way, texts in _TRIED.items():
            if hasattr(loaded, way) and given.get("attn_implementation") != "flash_attention_2":
                getattr(loaded, way)(texts, show_progress_bar=False)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever its parts raise
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = next((known for mark, known in _REASONS.items() if mark in str(error)), said)
        raise UserError(f"model {location}: sentence-transformers cannot use it ({reason}); name another") from (
            error if reason == said else None  # what is known of the model is not a matter of how it was loaded
        )
    return loaded


def _kind(folder: Path) -> str | None:
    """The sentence-transformers class that a folder is saved for; None for a checkpoint that says nothing."""
    about = json_object(folder / "config_sentence_transformers.json")
    if "model_type" in about:
        return str(about["model_type"])
    if (folder / "modules.json").exists():
        return RETRIEVER
    return RERANKER if _architecture(folder).endswith("ForSequenceClassification") else None


def _architecture(folder: Path) -> str:
    return str((json_object(folder / "config.json").get("architectures") or [""])[0])


def json_object(file: Path) -> dict[str, Any]:
    """What a model's file says; empty where it holds no JSON object."""
    content = json_in(file)
    return content if isinstance(content, dict) else {}


def json_in(file: Path) -> Any:
    """What a JSON file holds; None where it is missing or not JSON."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def own_prompts(folder: Path) -> dict[str, str]:
    """Returns what a model itself wants before texts: role (`query`, `document`) -> prompt, without empty ones.

    sentence-transformers passes over a stored prompt named `passage` or `corpus`, as it always finds an (empty) one
    named `document`; here the first that is not empty counts, since that is what the model was trained with.
    """
    stored = json_object(folder / "config_sentence_transformers.json").get("prompts") or {}
    names = {"query": ("query",), "document": ("document", "passage", "corpus")}
    found = {role: next((stored[name] for name in names[role] if stored.get(name)), "") for role in names}
    return {role: prompt for role, prompt in found.items() if prompt}
