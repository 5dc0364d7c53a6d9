"""Conversion of models to other runtimes."""

import pytest

from foils.encode.convert import PACKAGES, convert
from foils.errors import UserError


def test_a_model_that_torch_cannot_export_is_refused(tmp_path):
    import torch

    for package in PACKAGES["onnx"]:
        pytest.importorskip(package)

    class Branching(torch.nn.Module):
        def preprocess(self, pairs):
            return {"input_ids": torch.ones(len(pairs), 4, dtype=torch.int64)}

        def forward(self, features):
            ids = features["input_ids"].float()
            found = ids if ids.sum() > 3 else -ids
            return {"token_embeddings": found, "sentence_embedding": found}

    with pytest.raises(UserError, match=r"onnx: torch cannot export this model \(.+\); try openvino"):
        convert(Branching(), "onnx", tmp_path)
    assert not list((tmp_path / "onnx").iterdir())
