"""A Hugging Face Hub on loopback, which the real clients read from and publish to.

It knows nothing of the project around it and imports no Hub library: `HF_ENDPOINT` is read when `huggingface_hub` is
first imported, so the server has to be up before that.
"""

from tests.hub.faults import Fault
from tests.hub.server import Hub

__all__ = ["Fault", "Hub"]
