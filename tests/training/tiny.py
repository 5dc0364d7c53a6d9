"""Random models of the shapes that people train, small enough for a test, saved as the Hub has the real ones."""

import string
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*string.ascii_lowercase, *string.digits, *string.punctuation]
VOCABULARY = {piece: number for number, piece in enumerate([*SPECIAL, *LETTERS, *(f"##{each}" for each in LETTERS)])}
SIZES = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer() -> Tokenizer:
    """One token a letter."""
    made = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def raw(kind: str, folder: Path) -> Path:
    """A checkpoint without pooling: `bert`, `distilbert`, `modernbert`, or `classifier`, one without a name for it."""
    torch.manual_seed(0)
    if kind == "distilbert":
        config = DistilBertConfig(vocab_size=len(VOCABULARY), dim=32, n_layers=2, n_heads=2, hidden_dim=64)
        model = DistilBertModel(config)
    elif kind == "modernbert":
        marks = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        model = ModernBertModel(ModernBertConfig(**SIZES, **marks, intermediate_size=64, local_attention=8))
    elif kind == "classifier":
        model = BertForSequenceClassification(BertConfig(**SIZES, intermediate_size=64, num_labels=1))
    else:
        model = BertModel(BertConfig(**SIZES, intermediate_size=64))
    model.save_pretrained(folder)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), **names, mask_token="[MASK]", model_max_length=512
    ).save_pretrained(folder)
    return folder


def retriever(pooling: str, folder: Path, kind: str = "bert", length: int = 512) -> Path:
    """A `SentenceTransformer` with pooling and normalisation."""
    transformer = Transformer(str(raw(kind, folder / "raw")))
    transformer.max_seq_length = length
    model = SentenceTransformer(modules=[transformer, Pooling(32, pooling), Normalize()], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def static(folder: Path) -> Path:
    """A table of token vectors."""
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer(), embedding_dim=16)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def cross_encoder(folder: Path) -> Path:
    """A `CrossEncoder` with one score."""
    CrossEncoder(str(raw("classifier", folder / "raw")), device="cpu").save_pretrained(
        str(folder / "model"), create_model_card=False
    )
    return folder / "model"
