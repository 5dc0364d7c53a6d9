"""What the errors of the Hub's clients mean, in one line for the user."""

import json
import re

import httpx2
from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from foils.errors import scrub

RETRIED = {408, 429, 500, 502, 503, 504}
HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_SERVER_ERROR = 401, 403, 500
LATER = "nothing is lost, run the same command again later"

# The first that fits; a text in braces is made from the error.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (HFValidationError, "not a name that the Hub allows: {line}"),
    (OfflineModeIsEnabled, "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or name a local folder"),
    (GatedRepoError, "gated: its owner decides who may read it; ask on its page for access for your token's account"),
    (RevisionNotFoundError, "the repository has no such revision; see its tags and branches on its page"),
    (
        RepositoryNotFoundError,
        (
            "the Hub has no such repository, or your token may not see it; check the name; if it is private, log in "
            "with `hf auth login` or set HF_TOKEN"
        ),
    ),
    (LocalTokenNotFoundError, "the Hub wants to know who you are; run `hf auth login` or set HF_TOKEN"),
)


def meaning(error: Exception) -> str:
    """Says what an error means, and what to do."""
    for kind, words in _MEANINGS:
        if isinstance(error, kind):
            return words.replace("{line}", first_line(error))
    if isinstance(error, HfHubHTTPError):
        return _refusal(error)
    if isinstance(error, httpx2.TransportError | OSError | RuntimeError | json.JSONDecodeError):
        return _broken(error)  # hf_xet raises builtins
    return f"refused: {' '.join(scrub(str(error)).split())}"  # such as metadata that the Hub does not accept


def _refusal(error: HfHubHTTPError) -> str:
    """What an HTTP error means for the user who started the job."""
    status, words = error.response.status_code, " ".join(scrub(error.server_message or first_line(error)).split())
    if status == HTTP_UNAUTHORIZED and get_token() is None:
        return "the Hub wants to know who you are; run `hf auth login` or set HF_TOKEN"
    if status == HTTP_UNAUTHORIZED:
        return f"the Hub does not know your token ({words}); run `hf auth login` or set HF_TOKEN to a valid one"
    if status == HTTP_FORBIDDEN:
        return (
            f"your token does not allow this ({words}); use one with write access to that user or organisation, from "
            "https://huggingface.co/settings/tokens"
        )
    if status < HTTP_SERVER_ERROR and status not in RETRIED:
        return f"the Hub refused with {status} ({words}); correct what it names, then run the same command again"
    return f"the Hub answered {status} ({words}); {LATER}"


def _broken(error: Exception) -> str:
    """What a broken connection means; a company's Hub may lack Xet storage, which the client does not notice."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
        return f"this machine says: {first_line(error)}; correct that, then run the same command again"
    if isinstance(error, json.JSONDecodeError):
        return f"the Hub's answer cannot be read ({first_line(error)}); {LATER}"
    advice = "run the same command again"
    if "xet" in str(error).lower():
        advice += ", or, if this Hub has no Xet storage, with HF_HUB_DISABLE_XET=1"
    return f"the connection to the Hub failed ({first_line(error)}); nothing is lost, {advice}"


def first_line(error: Exception) -> str:
    """The first line of an error's text, without tokens and without what a signed URL carries."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", scrub(first))
