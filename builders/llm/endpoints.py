"""Where the LLM is, as the recipe says it, and the key for it."""

import os
import re

import httpx2
from huggingface_hub import get_inference_endpoint
from huggingface_hub.errors import HfHubHTTPError

from builders.llm.config import LlmConfig
from builders.llm.messages import Endpoint
from foils.errors import UserError

NO_KEY = "none-needed"


def endpoint_of(llm: LlmConfig) -> Endpoint:
    """Where the recipe's LLM is; not for the embedded one.

    Raises:
        UserError: an Inference Endpoint does not exist, does not run, or serves another model.
    """
    if llm.endpoint is not None:
        return _inference_endpoint(llm.endpoint, llm)
    return Endpoint(llm.base_url, llm.model, llm.provider)


def api_key(llm: LlmConfig) -> str:
    """The key that the recipe names, or `NO_KEY`.

    Raises:
        UserError: it is not in the environment, or cannot stand in a header.
    """
    if llm.api_key_env is None:
        return NO_KEY
    key = os.environ.get(llm.api_key_env, "").strip()
    if not key:
        raise UserError(f"llm.api_key_env: the environment variable {llm.api_key_env} is not set; export it first")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UserError(
            f"llm.api_key_env: the environment variable {llm.api_key_env} holds white space or letters that no key "
            "has; export the key alone"
        )
    return key


def _inference_endpoint(name: str, llm: LlmConfig) -> Endpoint:
    """A Hugging Face Inference Endpoint by name; its owner's Hub token finds it, and the recipe's key calls it."""
    namespace, _, short = name.partition("/")
    try:
        found = get_inference_endpoint(short, namespace=namespace, token=api_key(llm))
    except HfHubHTTPError as error:
        raise UserError(
            f"llm.endpoint {name}: answered {error.response.status_code}; check the name, and that llm.api_key_env "
            "names a Hub token which may read it"
        ) from None
    except (httpx2.HTTPError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"llm.endpoint {name}: Hugging Face cannot be asked for it ({type(error).__name__}); try again later, or "
            "set llm.base_url to its address"
        ) from None
    if found.url is None:
        raise UserError(f"llm.endpoint {name}: it is {found.status}; start it, then run the same command again")
    if found.repository != llm.model:
        raise UserError(f"llm.endpoint {name}: it serves {found.repository}; set llm.model to that")
    return Endpoint(f"{found.url.rstrip('/')}/v1", llm.model)
