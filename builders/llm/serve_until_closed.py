"""`transformers serve` for one model folder, until standard input closes.

    python -m builders.llm.serve_until_closed MODEL_FOLDER PORT

The pipe on standard input closes when the parent ends in any way, kill -9 included, so no server is left.
"""

import os
import sys
import threading

import torch
from transformers.cli.serve import Serve

from foils.hardware import has_native_bf16

# Left to itself, the server takes most of the machine's memory for its cache (14 GB were seen) and is killed when
# anything else wants some. These serve a dozen conversations of 1,000 tokens at once.
PAGE_TOKENS = 256  # the server's own
CACHE_TOKENS = 16_384
BATCH_TOKENS = 2_048


def main(model_folder: str, port: int) -> None:
    """Serves `model_folder` on 127.0.0.1 with continuous batching."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    Serve(
        force_model=model_folder,
        continuous_batching=True,
        cb_num_blocks=CACHE_TOKENS // PAGE_TOKENS,
        cb_max_batch_tokens=BATCH_TOKENS,
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype="bfloat16" if has_native_bf16() else "float32",
        host="127.0.0.1",
        port=port,
    )


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
