"""Models of a few thousand weights with a real tokenizer: quick to make, load and train."""

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertModel

from foils.models import resolve_model
from tests.conftest import BASE


def tokenizer():
    return AutoTokenizer.from_pretrained(resolve_model(BASE).location)


def save_small_encoder(folder, kind=BertModel, config=BertConfig, **changed):
    """An encoder of two layers, or another kind of model of that size, with a tokenizer, in a folder."""
    words = tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    kind(config(vocab_size=len(words), max_position_embeddings=64, **{**sizes, **changed})).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def small_retriever(folder, max_seq_length=32, **changed):
    """A SentenceTransformer with mean pooling around it."""
    model = SentenceTransformer(str(save_small_encoder(folder, **changed)), device="cpu")
    model.max_seq_length = max_seq_length
    return model
