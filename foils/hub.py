"""The Hub as this project talks to it: patient with what passes, plain about what does not.

Reading goes through `pin` (a name and revision become a commit, and a tag that has moved is noticed) and `download`
(only the kinds of files that are asked for, never outside the target folder). `cards.publish` writes.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from foils import pins
from foils.errors import UserError, scrub

logger = logging.getLogger(__name__)

T = TypeVar("T")
RepoType = Literal["dataset", "model"]

COMMIT = re.compile(r"[0-9a-f]{40}")
RETRIED = {408, 429, 500, 502, 503, 504}
ATTEMPTS = 6
LONGEST_PAUSE_S = 300
LONG_TRY_S = 60
HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_SERVER_ERROR = 401, 403, 500
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja")
"""What a model is loaded from: weights that cannot hold code, and plain text."""
_LATER = "nothing is lost, run the same command again later"


class UnreachableError(UserError):
    """The Hub is not within reach: no network, or `HF_HUB_OFFLINE`."""


@cache
def client() -> HfApi:
    """The Hub client; endpoint and token come from the environment or `hf auth login`."""
    return HfApi(library_name="foils")


def patiently(call: Callable[[], T], pause_s: float = 1.0) -> T:
    """Makes a call again while the Hub is busy or the connection breaks; the client itself does so for some only.

    A server that says how long to wait is obeyed, up to five minutes. A repeated POST may find its own work done:
    callers look at the Hub's state after a conflict and do not trust the answer alone.

    Args:
        call: one request.
        pause_s: seconds before the second try; doubled for each further one.
    """
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        try:
            return call()
        except OfflineModeIsEnabled:
            raise
        except LocalEntryNotFoundError as error:  # the client has tried for long; why it gave up is what counts
            raise error.__cause__ or error from None
        except HfHubHTTPError as error:
            if attempt == ATTEMPTS or error.response.status_code not in RETRIED:
                raise
            asked = error.response.headers.get("Retry-After", "")
            pause = min(int(asked) + 0.5, LONGEST_PAUSE_S) if asked.isdigit() else pause_s * 2 ** (attempt - 1)
            why = f"answered {error.response.status_code}"
        except (httpx2.TransportError, ConnectionError, json.JSONDecodeError) as error:  # a proxy's page is no JSON
            if attempt == ATTEMPTS or _is_final(error, time.monotonic() - began):
                raise
            pause = pause_s * 2 ** (attempt - 1)
            why = f"cannot be reached ({_line(error)})"
        logger.info("the Hub %s; trying again in %.1f s", why, pause)
        time.sleep(pause)
    raise AssertionError("unreachable")


def _is_final(error: Exception, seconds: float) -> bool:
    """Whether another try is in vain: hf_xet raises a ConnectionError for refusals, and after minutes of its own tries.

    Args:
        error: of a call.
        seconds: that the call took.
    """
    return isinstance(error, ConnectionError) and ("HTTP status client error" in str(error) or seconds > LONG_TRY_S)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns whatever the Hub's clients raise into one line for the user.

    Args:
        what: the thing that was tried, such as `data set owner/name@v1.0.0`.

    Raises:
        UserError: says what the Hub answered and what to do; `UnreachableError` where it did not answer.
    """
    try:
        yield
    except (HfHubHTTPError, httpx2.TransportError, OSError, RuntimeError, ValueError) as error:
        unreachable = isinstance(error, OfflineModeIsEnabled | httpx2.TransportError | ConnectionError)
        raise (UnreachableError if unreachable else UserError)(f"{what}: {_told(error)}") from None


def pin(repo_id: str, revision: str, repo_type: RepoType) -> str:
    """The commit behind a revision.

    The first commit that a tag is seen at is written down (see `foils.pins`): a version that points elsewhere later is
    refused, since figures that name it would no longer be of the same bytes. Offline, what was written down is used.

    Raises:
        UserError: there is no such repository or revision, or the tag has moved.
    """
    if COMMIT.fullmatch(revision):
        return revision
    if constants.is_offline_mode() and (last := pins.offline(repo_id, revision, repo_type)) is not None:
        return last
    with explained(f"{repo_type} {repo_id}@{revision}"):
        info = patiently(lambda: client().repo_info(repo_id, revision=revision, repo_type=repo_type))
        if info.gated:  # told now: `datasets` would hide it in an error of its own
            patiently(lambda: client().auth_check(repo_id, repo_type=repo_type))
        refs = patiently(lambda: client().list_repo_refs(repo_id, repo_type=repo_type))
    commit, is_tag = str(info.sha), revision in {tag.name for tag in refs.tags}
    noted, note = pins.tagged(repo_id, revision, repo_type)
    if is_tag and noted not in (None, commit):
        raise UserError(
            f"{repo_type} {repo_id}@{revision}: the tag has moved: it was {noted} when it was first used here and is "
            f"{commit} now; a version must never move. Name the commit that you mean as the revision, or, if you "
            f"trust the new one, delete {note}"
        )
    pins.note(repo_id, revision, repo_type, commit, tag=is_tag)
    return commit


def files_at(repo_id: str, commit: str, repo_type: RepoType) -> dict[str, RepoFile]:
    """Path -> file of a repository's whole tree.

    Raises:
        UserError: a path would leave the folder that it is downloaded to.
        HfHubHTTPError: whatever the Hub answered.
    """
    tree = patiently(
        lambda: list(client().list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type))
    )
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    for path in files:
        check_path(path, f"{repo_type} {repo_id}")
    return files


def check_path(path: str, where: str) -> None:
    """Refuses a path that could leave its folder.

    Raises:
        UserError: the path is absolute or climbs.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or re.match(r"[A-Za-z]:", path):
        raise UserError(f"{where}: holds the path {path!r}, which would leave the folder it is read into; not read")


def download(repo_id: str, commit: str, repo_type: RepoType, patterns: Sequence[str]) -> Path:
    """Downloads what matches the patterns into the Hub's cache and returns the snapshot's folder.

    Raises:
        UserError: the repository cannot be read, or a path in it would leave the folder.
    """
    with explained(f"{repo_type} {repo_id}@{commit}"):
        if not constants.is_offline_mode():
            files_at(repo_id, commit, repo_type)
        folder = patiently(
            lambda: client().snapshot_download(
                repo_id, repo_type=repo_type, revision=commit, allow_patterns=list(patterns)
            )
        )
    return Path(folder)


def parquet_builder(repo_id: str, config: str | None, commit: str) -> Any:
    """What `datasets` knows of a Hub data set's configuration (a `DatasetBuilder`): its splits and their files.

    Raises:
        UserError: there is no such configuration, or its files are of another kind.
    """
    from datasets import load_dataset_builder

    where = f"dataset {repo_id}@{commit}" + (f", configuration {config!r}" if config else "")
    with _found(where):
        if not constants.is_offline_mode():
            files_at(repo_id, commit, "dataset")  # refuses paths that climb
        builder = patiently(lambda: load_dataset_builder(repo_id, config, revision=commit))
    if builder.info.builder_name != "parquet":
        raise UserError(
            f"{where}: its files are {builder.info.builder_name}; only Parquet is read from the Hub. The Hub keeps a "
            "Parquet copy of most public data sets: name its commit, that of refs/convert/parquet, as the revision"
        )
    return builder


def load_parquet(repo_id: str, config: str | None, split: str, commit: str) -> Any:
    """One split of a Hub data set (a `datasets.Dataset`), read from Parquet files alone.

    Raises:
        UserError: there is no such configuration or split, or its files are of another kind.
    """
    from datasets import load_dataset

    parquet_builder(repo_id, config, commit)
    with _found(f"dataset {repo_id}@{commit}" + (f", configuration {config!r}" if config else "")):
        return patiently(lambda: load_dataset(repo_id, config, split=split, revision=commit))


@contextmanager
def _found(where: str) -> Iterator[None]:
    """As `explained`; what `datasets` did not find is told in its own words."""
    from datasets.exceptions import DatasetNotFoundError

    with explained(where):
        try:
            yield
        except (DatasetNotFoundError, FileNotFoundError, ValueError) as error:
            if isinstance(error, HfHubHTTPError):
                raise
            raise UserError(f"{where}: {_line(error)}") from None


def card_of(repo_id: str, commit: str) -> Any:
    """What a Hub data set's card says in its YAML; None where there is none, or offline."""
    if constants.is_offline_mode():
        return None
    with explained(f"dataset {repo_id}@{commit}"):
        return patiently(lambda: client().dataset_info(repo_id, revision=commit)).card_data


def licence_of(repo_id: str, commit: str) -> str | None:
    """The licence that a Hub data set's card states; None where it states none or several, or offline."""
    card = card_of(repo_id, commit)
    stated = card.get("license") if card else None
    stated = stated[0] if isinstance(stated, list) and len(stated) == 1 else stated
    return stated if isinstance(stated, str) and stated != "unknown" else None


# The first that fits; a text in braces is made from the error.
_TOLD: tuple[tuple[type[Exception], str], ...] = (
    (HFValidationError, "not a name that the Hub allows: {line}"),
    (OfflineModeIsEnabled, "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or name a local folder"),
    (
        GatedRepoError,
        "gated: its owner decides who may read it; ask on its page for access for your token's account",
    ),
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


def _told(error: Exception) -> str:
    """What an error of the Hub's clients means, and what to do."""
    for kind, words in _TOLD:
        if isinstance(error, kind):
            return words.replace("{line}", _line(error))
    if isinstance(error, HfHubHTTPError):
        return _refusal(error)
    if isinstance(error, httpx2.TransportError | OSError | RuntimeError | json.JSONDecodeError):
        return _broken(error)  # hf_xet raises builtins
    return f"refused: {' '.join(scrub(str(error)).split())}"  # such as metadata that the Hub does not accept


def _refusal(error: HfHubHTTPError) -> str:
    """What an HTTP error means for whoever started the job."""
    status, words = error.response.status_code, " ".join(scrub(error.server_message or _line(error)).split())
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
        return f"the Hub refused with {status} ({words}); mend what it names, then run the same command again"
    return f"the Hub answered {status} ({words}); {_LATER}"


def _broken(error: Exception) -> str:
    """What a broken connection means; Hubs of companies may lack Xet storage, which the client cannot tell itself."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
        return f"this machine says: {_line(error)}; mend that, then run the same command again"
    if isinstance(error, json.JSONDecodeError):
        return f"the Hub's answer cannot be read ({_line(error)}); {_LATER}"
    advice = "run the same command again"
    if "xet" in str(error).lower():
        advice += ", or, if this Hub has no Xet storage, with HF_HUB_DISABLE_XET=1"
    return f"the connection to the Hub failed ({_line(error)}); nothing is lost, {advice}"


def _line(error: Exception) -> str:
    """The first line of an error's text, without tokens and without what a signed URL carries."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", scrub(first))
