"""What the doctor learns of the server before it judges answers: is it there, the key, the model, and its kind."""

import asyncio
import difflib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from builders.doctor.findings import Advice, Finding, not_tried, quoted
from builders.doctor.visit import LONGEST_PROBE_S, Page, Reply, Visit
from builders.llm.completion import is_same_model
from builders.llm.wires import Server

FIRST_TRIES = 3
FIRST_PAUSE_S = 2.0
KEY_REFUSED = frozenset({401, 403})
NOT_FOUND = 404
REDIRECTS = range(300, 400)
MOST_LISTED = 8

# Which settings of llm.server suit a kind of server; the first is the one to advise.
_SUITS: Mapping[Server, tuple[Server, ...]] = {
    "vllm": ("vllm", "completions"),
    "tgi": ("tgi", "tgi-generate", "completions"),
    "llama.cpp": ("llama.cpp", "completions"),
    "transformers": ("transformers", "completions"),
}
_WHY: Mapping[Server, str] = {
    "vllm": "its own form of schema, and a way to switch thinking off",
    "tgi": "it takes a schema in its own form only",
    "llama.cpp": "the same requests, and a way to switch thinking off",
    "transformers": "it holds no answer to a schema, so none is sent",
}


async def meet(visit: Visit) -> None:
    """Reads what the server tells of itself, and has the first request of the recipe answered."""
    if visit.endpoint.base_url is not None:
        base = visit.endpoint.base_url.rstrip("/")
        listing = f"{visit.root}/v1" if visit.llm.server == "tgi-generate" else base
        page = await visit.get("models", f"{listing}/models", LONGEST_PROBE_S)
        if page.problem is not None:
            return
        if page.status == NOT_FOUND and base == visit.root:
            await visit.get("v1/models", f"{base}/v1/models")
        for name in ("version", "info", "props", "openapi.json"):
            await visit.get(name, f"{visit.root}/{name}")
        visit.kind = kind_of(visit.pages)
    for number in range(min(FIRST_TRIES, len(visit.case.tasks))):
        visit.first_task = number
        visit.first = await visit.ask(visit.first_request)
        failure = visit.first.failure
        if failure is None or not (failure.of_request or failure.pushed_back):
            return
        if failure.status is not None and failure.pushed_back:  # busy, or a model that is still being loaded
            await asyncio.sleep(FIRST_PAUSE_S)


def reachable(visit: Visit) -> Finding:
    """Whether the address answers, and whether it is the right path."""
    name = "reachable"
    page = visit.pages.get("models")
    if page is None:
        return not_tried(name, f"{visit.endpoint.place} has no pages to read; the calls below tell")
    if page.problem is not None:
        return Finding(name, "failed", page.problem, (Advice("check llm.base_url, and that the server runs there"),))
    if page.status in REDIRECTS:
        there = urlsplit(page.headers.get("location", ""))
        where = f"{there.scheme}://{there.hostname}{there.path}" if there.hostname else there.path
        found = f"GET /models answered {page.status} and points to {quoted(where)}; redirects are not followed"
        return Finding(name, "failed", found, (Advice("set llm.base_url to where it points"),))
    deeper = visit.pages.get("v1/models")
    if deeper is not None and deeper.is_good:
        urls = [url.rstrip("/") for url in visit.llm.base_urls]
        better = [f"{url}/v1" if url == visit.root else url for url in urls]
        advice = Advice("there it lists its models", "llm.base_url", better[0] if len(better) == 1 else better)
        return Finding(name, "failed", "GET /models answered 404, and GET /v1/models answered 200", (advice,))
    listed = names_of(page)
    told = f"lists {len(listed)} model{'s' * (len(listed) != 1)}" if listed else f"answered {page.status}, no list"
    return Finding(name, "ok", f"GET /models: {told}, {page.seconds * 1000:.0f} ms")


def key(visit: Visit) -> Finding:
    """Whether the server takes the key, or wants one."""
    if visit.key_problem is not None:
        return Finding("key", "failed", visit.key_problem)
    if visit.is_away:
        return not_tried("key", "the address cannot be reached")
    env = visit.llm.api_key_env
    status = visit.first.failure.status if visit.first.failure is not None else None
    page = visit.pages.get("models")
    listing_refused = page is not None and page.status in KEY_REFUSED
    if status in KEY_REFUSED or (visit.first.answer is None and listing_refused):
        shown = status if status in KEY_REFUSED else page.status if page is not None else status
        if env is None:
            found = f"answered {shown}, and the recipe names no key"
            advice = Advice("set llm.api_key_env to the name of the environment variable that holds the key")
        else:
            found = f"answered {shown} to the key in {env}"
            advice = Advice(f"check the value of {env} and what it may do, or name another in llm.api_key_env")
        return Finding("key", "failed", found, (advice,))
    if visit.first.answer is None:
        return not_tried("key", f"the first request got no answer: {visit.first.problem}")
    return Finding("key", "ok", "none is needed" if env is None else f"the key in {env} is taken")


def model(visit: Visit) -> Finding:
    """Whether the asked model is served, and answers under its name."""
    if visit.is_away or visit.key_problem is not None:
        return not_tried("model", visit.blocked or "")
    asked, first = visit.endpoint.served_model, visit.first
    listed = names_of(visit.pages.get("models"))
    is_listed = any(is_same_model(asked, one) for one in listed)
    served = f"served: {', '.join(listed[:MOST_LISTED])}{', ...' * (len(listed) > MOST_LISTED)}"
    if first.answer is None:
        if is_listed:
            return Finding("model", "ok", f"{asked} is listed")
        if not listed:
            return not_tried("model", f"no list, and {first.problem}")
        return Finding("model", "failed", f"{asked} is not among what is {served}", _closest(asked, listed))
    return _answered(visit, first, listed, is_listed=is_listed)


def _answered(visit: Visit, first: Reply, listed: list[str], *, is_listed: bool) -> Finding:
    asked, answered = visit.endpoint.served_model, first.model
    names = (asked, visit.llm.answers_as or "-")
    if visit.llm.is_embedded:
        return Finding("model", "ok", f"{visit.llm.model}, served for this run")
    if answered is None:
        if is_listed:
            return Finding("model", "ok", f"{asked} is listed; answers name no model")
        return Finding("model", "warning", f"{asked} is not listed, and answers name no model")
    if any(is_same_model(name, answered) for name in names):
        told = "listed, " * is_listed
        return Finding("model", "ok", f"{asked}: {told}answers as {answered.rpartition('/')[2]}")
    advice = Advice(
        f"that is what answers; or llm.answers_as = {answered!r}, if it is the same model under another name",
        "llm.model",
        answered,
    )
    others = f"; {len(listed)} listed" if len(listed) > 1 else ""
    return Finding("model", "failed", f"asked for {asked}, and {answered} answered{others}", (advice,))


def kind(visit: Visit) -> Finding:
    """What kind of server it is, by what it tells of itself."""
    name, found = "server", visit.kind
    if visit.is_away:
        return not_tried(name, "the address cannot be reached")
    if not visit.pages:
        return Finding(name, "ok", f"a provider; llm.server = {visit.llm.server!r} is taken as it is")
    if found is None:
        return Finding(name, "ok", f"of no kind that is known; llm.server = {visit.llm.server!r} is taken as it is")
    slots = visit.pages["props"].value.get("total_slots") if found == "llama.cpp" else None
    told = f"{found}, {slots} requests at once" if slots else found
    if visit.llm.server in _SUITS[found] or visit.llm.is_embedded:
        return Finding(name, "ok", told)
    advice = Advice(_WHY[found], "llm.server", _SUITS[found][0])
    return Finding(name, "warning", f"{told}; the recipe says {visit.llm.server}", (advice,))


def kind_of(pages: Mapping[str, Page]) -> Server | None:
    """The kind of server by its pages, None if they do not tell."""
    owners = {str(entry.get("owned_by", "")) for entry in entries_of(pages.get("models"))}
    if "llamacpp" in owners or "default_generation_settings" in pages["props"].value:
        return "llama.cpp"
    if "vllm" in owners:
        return "vllm"
    if {"model_id", "max_concurrent_requests"} <= set(pages["info"].value):
        return "tgi"
    if "/load_model" in _paths(pages["openapi.json"]):
        return "transformers"
    if set(pages["version"].value) == {"version"} and not owners - {""}:
        return "vllm"
    return None


def context_of(visit: Visit) -> int | None:
    """Tokens that a prompt and its answer may have together, where the server tells."""
    asked = visit.endpoint.served_model
    entries = entries_of(visit.pages.get("models"))
    mine = [entry for entry in entries if is_same_model(asked, str(entry.get("id", "")))] or entries[:1]
    settings = _page(visit, "props").get("default_generation_settings")
    told = [
        settings.get("n_ctx") if isinstance(settings, dict) else None,
        _page(visit, "info").get("max_total_tokens"),
        *(entry.get(field) for entry in mine for field in ("max_model_len", "context_length", "context_window")),
    ]
    return next((tokens for tokens in told if isinstance(tokens, int) and tokens > 0), None)


def entries_of(page: Page | None) -> list[Mapping[str, Any]]:
    """The entries of a list of models."""
    entries = page.value.get("data") if page is not None else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def names_of(page: Page | None) -> list[str]:
    """The models that a page lists."""
    return [str(entry["id"]) for entry in entries_of(page) if "id" in entry]


def _closest(asked: str, listed: list[str]) -> tuple[Advice, ...]:
    """The one that was probably meant."""
    if len(listed) == 1:
        return (Advice("the only one that is served", "llm.model", listed[0]),)
    close = difflib.get_close_matches(asked, listed, 1)
    if close:
        return (Advice("the closest of those that are served", "llm.model", close[0]),)
    return (Advice("set llm.model to one of them"),)


def _page(visit: Visit, name: str) -> Mapping[str, Any]:
    page = visit.pages.get(name)
    return page.value if page is not None else {}


def _paths(page: Page) -> Mapping[str, Any]:
    paths = page.value.get("paths")
    return paths if isinstance(paths, dict) else {}
