"""Whether a base can be trained as an embedding model or reranker at all, from its files, before it is loaded."""

from pathlib import Path

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from foils.errors import UserError
from foils.loading import check_retriever, check_tokenizer, json_object, modules_of
from foils.models import ModelReference

ALLOWED = "an encoder (BERT, MPNet, ModernBERT, ... with a tokenizer), or an embedding model with modules.json"
_DECODERS = ("ForCausalLM", "LMHeadModel")
_HEADS = ("ForTokenClassification", "ForQuestionAnswering")
# Encoder and decoder, of which sentence-transformers loads the encoder alone.
_ENCODERS_OF_TWO = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "m2m_100", "marian", "pegasus")


def check_base(base: ModelReference, task: str) -> None:
    """Refuses a base that cannot be trained for a task (`retriever` or `cross-encoder`), before it is loaded.

    A decoder, a reranker or a classifier would be loaded without its head, given mean pooling and trained, with a
    warning at most.

    Raises:
        UserError: it is a decoder, has another head, or no tokenizer; says what was found.
    """
    folder = Path(base.location)
    if task == "retriever":
        check_retriever(base.location, "name another base, or train this one with task = 'cross-encoder'")
    found = _incomplete(folder) or _not_an_encoder(folder, task)
    if found is not None:
        raise UserError(f"base {base.name}: is {found}; allowed: {ALLOWED}; name another base")
    check_tokenizer(base.location, f"base {base.name}")


def _not_an_encoder(folder: Path, task: str) -> str | None:
    """Says what a base is, if it cannot be trained for the task."""
    config = json_object(folder / "config.json")
    architectures = ", ".join(config.get("architectures") or []) or "no architecture"
    model_type = str(config.get("model_type", "none"))
    found = f"{architectures} (model_type {model_type} in config.json)"
    classes = len(config.get("id2label") or (0, 1))  # which is left out where there are two
    if task == "cross-encoder" and architectures.endswith("ForSequenceClassification") and classes != 1:
        return f"a classifier with {classes} scores a pair, where one is trained: {found}"
    if (folder / "modules.json").exists():  # it is an embedding model, of whatever architecture
        return None
    masked = model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.get("is_decoder") or (architectures.endswith(_DECODERS) and not masked):
        return f"a decoder, which reads a text from left to right only: {found}"
    if task == "retriever" and architectures.endswith(_HEADS):
        return f"a classifier, whose head would be thrown away: {found}"
    if (model_type in _ENCODERS_OF_TWO and task == "retriever") or (masked and not config.get("is_encoder_decoder")):
        return None
    return f"not an encoder of text that transformers knows: {found}"


def _incomplete(folder: Path) -> str | None:
    """Says what a base needs beside its weights: those of another model, or Python files, which are never run."""
    # One that nothing here names, such as an earlier LoRA's, may lie beside a whole model.
    modules = [folder, *(file.parent for file in folder.glob("**/sentence_bert_config.json"))]
    adapter = next((file for module in modules if (file := module / "adapter_config.json").exists()), None)
    if adapter is not None:
        return f"an adapter ({adapter.relative_to(folder)}) and not a whole model; merge it into its base and save that"
    own = [
        f"auto_map in {file.relative_to(folder)}"
        for file in sorted(folder.glob("**/config.json"))
        if (config := json_object(file)).get("auto_map") and config.get("model_type") not in CONFIG_MAPPING
    ]
    own += [f"{kind} in modules.json" for kind in modules_of(str(folder)) if not kind.startswith("sentence_transf")]
    return f"a model with code of its own ({own[0]}), which is never run" if own else None
