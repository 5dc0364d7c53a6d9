"""What the doctor makes of real answers: usable ones, JSON, seeds, token figures, and the longest prompt."""

import re
from typing import Any

import msgspec

from builders.answers import problem_of, texts_of
from builders.doctor.findings import Advice, Finding, Status, not_tried, quoted
from builders.doctor.server import FIRST_TRIES, context_of
from builders.doctor.visit import Reply, Visit, is_late
from builders.llm.chat import ChatRequest
from builders.llm.ledger import SAFE_BYTES_PER_TOKEN, bytes_of
from builders.llm.wires import WIRES, Server, chat
from builders.prompts import answer_schema

THINKING_TOKENS = 2048
SEED_TOKENS = 32
CUT_DENSITY = 2.0
SCHEMA_FORMS: tuple[Server, ...] = ("openai", "vllm", "tgi")

_ABOUT_LENGTH = re.compile(r"context|token|length|too (?:long|large)", re.IGNORECASE)
_LARGER = {
    "vllm": "start vLLM with a larger --max-model-len",
    "tgi": "start TGI with a larger --max-total-tokens",
    "llama.cpp": "start llama-server with a larger -c (the slots of -np share it)",
}


async def answer(visit: Visit) -> Finding:
    """Whether the first requests of the recipe are answered so that the stage can use it."""
    if visit.blocked is not None:
        return _no_answer(visit)
    reasons: list[str] = []
    seen = ""
    for number, task in enumerate(visit.case.tasks[visit.first_task :][:FIRST_TRIES]):
        request = visit.case.requests[visit.first_task + number]
        reply = visit.first if number == 0 else await visit.ask(request)
        if reply.answer is None:
            reasons.append(reply.problem)
            continue
        reason = task.take(reply.answer)
        if reason is None:
            shown = f"{quoted(reply.answer.text)} ({reply.answer.finish_reason})"
            return Finding("answer", "ok", f"{shown}{_before(reasons)}")
        if reason == "only-reasoning":
            return await _only_reasoning(visit, request)
        reasons.append(reason)
        seen = seen or reply.answer.text.strip()
    found = f"{len(reasons)} requests, no usable answer: {', '.join(reasons)}"
    if not seen:
        return Finding("answer", "failed", found, (Advice("the model says nothing; try another model or prompt"),))
    table, asking = visit.case.table, visit.case.asking
    why = f"the build asks {asking.attempts} times and drops what stays unusable"
    advice = [Advice(f"{why}; a better model, or another {table}.prompt")]
    if "cut" in reasons:
        advice.insert(0, Advice("answers were cut", f"{table}.max_tokens", 4 * asking.max_tokens))
    return Finding("answer", "warning", f"{found}\nthe first: {quoted(seen)}", tuple(advice))


def _no_answer(visit: Visit) -> Finding:
    failure = visit.first.failure
    if failure is None or visit.is_away or visit.key_problem is not None or failure.status in {401, 403}:
        return not_tried("answer", visit.blocked or "")
    if is_late(failure):
        advice = Advice(f"an answer took more than {visit.llm.timeout_s:g} s: see what keeps the server busy")
        return Finding("answer", "failed", f"{FIRST_TRIES} requests, and it {visit.first.problem}", (advice,))
    return Finding("answer", "failed", visit.first.problem)


def _before(reasons: list[str]) -> str:
    return f"; before that {len(reasons)} unusable: {', '.join(reasons)}" if reasons else ""


async def _only_reasoning(visit: Visit, request: ChatRequest) -> Finding:
    """What helps against thoughts without an answer: no thinking, or room for it; both are tried."""
    found = "a reasoning model: it thought and said nothing"
    server = visit.llm.server if visit.kind is None else visit.kind
    if WIRES[server].no_thinking is not None and WIRES[server].send is chat and visit.llm.thinking is not False:
        reply = await visit.ask(request, server=server, thinking=False)
        if _says_something(reply):
            advice = [Advice("tried: then it answers at once", "llm.thinking", False)]
            if server != visit.llm.server:
                advice.append(Advice("which knows how to switch thinking off", "llm.server", server))
            return Finding("answer", "failed", found, tuple(advice))
    tokens = max(THINKING_TOKENS, 4 * request.max_tokens)
    reply = await visit.ask(msgspec.structs.replace(request, max_tokens=tokens), thinking=True)
    if _says_something(reply):
        why = "room to think; likewise the max_tokens of [negatives.llm] where negatives are written"
        advice = [Advice("tried: with more room it answers", "llm.thinking", True)]
        return Finding("answer", "failed", found, (*advice, Advice(why, f"{visit.case.table}.max_tokens", tokens)))
    why = f"neither llm.thinking = false nor {tokens} tokens helped; take another model"
    return Finding("answer", "failed", found, (Advice(why),))


def _says_something(reply: Reply) -> bool:
    return reply.answer is not None and problem_of(reply.answer) is None


async def structured(visit: Visit) -> Finding:
    """Whether answers in JSON can be had: held to a schema by one of its forms, or as the prompt alone asks."""
    recipe, failure = visit.case.recipe, visit.first.failure
    writers = (recipe.queries, recipe.negatives.llm, recipe.negatives.llm_with_positive)
    is_wanted = any(writer.output == "json" for writer in writers)
    # The schema itself may be what the first request was refused for.
    if visit.blocked is not None and not (is_wanted and failure is not None and failure.of_request):
        return not_tried("JSON", visit.blocked)
    own, late = visit.llm.server, visit.late
    held = [_by_kind(server, visit.kind) for server in _forms(own) if await _is_held(visit, server)]
    reply = await visit.ask(visit.case.as_json)
    is_json = reply.answer is not None and texts_of(reply.answer, 1, as_json=True)[1] is None
    if any(_form(server) == _form(own) for server in held):
        return Finding("JSON", "ok", f'answers are held to a schema (llm.server {own}): output = "json" is safe')
    if visit.late > late:
        return not_tried("JSON", "some calls got no answer in time")
    asked = f"asked by the prompt alone, the answer was {'' if is_json else 'not '}JSON"
    if reply.answer is None:
        asked = f"its own form was {reply.problem}"
    return _judged(held, asked, own=own, is_json=is_json, is_wanted=is_wanted, table=visit.case.table)


def _judged(held: list[Server], asked: str, *, own: Server, is_json: bool, is_wanted: bool, table: str) -> Finding:
    """What follows where the recipe's own kind of server holds no answer to a schema."""
    status: Status = "ok" if not is_wanted else "warning" if is_json else "failed"
    if held:
        found = f"llm.server {own} does not hold answers to a schema, the form of {held[0]} does; {asked}"
        better = Advice('holds answers to a schema, for output = "json"', "llm.server", held[0])
        return Finding("JSON", status, found, (better,) if is_wanted else ())
    told = 'output = "json" may do, with answers dropped now and then' if is_json else 'keep output = "text"'
    advice = (Advice("answers would be dropped", f"{table}.output", "text"),) if status == "failed" else ()
    return Finding("JSON", status, f"no form of schema holds; {asked}: {told}", advice)


def _forms(own: Server) -> list[Server]:
    """The kinds of server whose schema forms are tried: the recipe's, then those that differ from it."""
    if WIRES[own].send is not chat:
        return [own] if _form(own) else []
    mine = [own] if _form(own) else []
    return mine + [server for server in SCHEMA_FORMS if _form(server) != _form(own)]


def _form(server: Server) -> dict[str, Any] | None:
    """How a kind of server is told a schema."""
    form = WIRES[server].schema
    return form(answer_schema(1)) if form is not None else None


def _by_kind(server: Server, kind: Server | None) -> Server:
    """The name of a schema's form: the server's own kind where that has the same form."""
    return kind if kind is not None and _form(kind) == _form(server) else server


async def _is_held(visit: Visit, server: Server) -> bool:
    """Whether the schema alone makes an answer JSON: the prompt does not ask for it."""
    bound = msgspec.structs.replace(visit.case.as_text, temperature=0.0, stop=(), schema=answer_schema(1))
    reply = await visit.ask(bound, server=server, thinking=visit.llm.thinking if server == visit.llm.server else None)
    return reply.answer is not None and re.match(r'\s*\{\s*"text"\s*:', reply.answer.text) is not None


async def seed(visit: Visit) -> Finding:
    """Whether the seed makes answers repeatable, and another seed makes other ones."""
    if visit.blocked is not None:
        return not_tried("seed", visit.blocked)
    asked = ({"role": "user", "content": "Write the first sentence of an unusual story."},)
    request = ChatRequest(asked, max_tokens=max(SEED_TOKENS, visit.first_request.max_tokens), temperature=1.0, seed=1)
    texts = []
    for number in (1, 1, 2):
        reply = await visit.ask(msgspec.structs.replace(request, seed=number))
        if reply.answer is None:
            return not_tried("seed", reply.problem)
        texts.append(reply.answer.text.strip())
    first, again, other = texts
    if not all(texts):
        return not_tried("seed", "some answers were empty, so there is nothing to compare")
    if first != again:
        found = "equal requests get different answers; the call store makes rebuilds repeatable all the same"
        return Finding("seed", "warning", found)
    if first == other:
        found = "another seed gets the same answer, at temperature 1; a rejected row may get the same answer again"
        return Finding("seed", "warning", found)
    return Finding("seed", "ok", "equal requests get equal answers, and another seed another one")


def usage(visit: Visit) -> Finding:
    """Whether answers say how many tokens they are."""
    answer = visit.first.answer
    if visit.blocked is not None or answer is None:
        return not_tried("usage", visit.blocked or "")
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        sure = "; so are cost and budget" if visit.llm.prices.known else ""
        return Finding("usage", "warning", f"answers do not tell their tokens: they are guessed from bytes{sure}")
    return Finding("usage", "ok", f"{answer.prompt_tokens} tokens read, {answer.completion_tokens} written, as told")


async def context(visit: Visit) -> Finding:
    """Whether the longest prompt of the recipe fits, with its answer."""
    failure = visit.first.failure
    if visit.blocked is not None and (failure is None or not failure.of_request):
        return not_tried("context", visit.blocked)
    request, limit = visit.case.longest, context_of(visit)
    what = f"longest prompt ({visit.case.longest_stage})"
    has = f"; the server's context is {limit}" if limit is not None else ""
    reply = await visit.ask(request)
    if reply.answer is not None:
        return _read(visit, reply.answer.prompt_tokens, what, has)
    if reply.failure is not None and (is_late(reply.failure) or reply.failure.status is None):
        return Finding("context", "warning", f"{what}: {reply.problem}{has}")
    if visit.first.answer is None and not _ABOUT_LENGTH.search(reply.problem):
        return not_tried("context", visit.blocked or "")
    tokens = round(bytes_of(request.messages) / _density(visit.first, visit.first_request))
    found = f"{what}, about {tokens} tokens and {request.max_tokens} to write: {reply.problem}{has}"
    return Finding("context", "failed", found, _shorter(visit, tokens, limit))


def _read(visit: Visit, read: int | None, what: str, has: str) -> Finding:
    """The longest prompt was answered: was all of it read, and is there room for the answer?"""
    request, limit = visit.case.longest, context_of(visit)
    if read is None:
        return Finding("context", "ok", f"{what}: {bytes_of(request.messages)} bytes are taken{has}")
    found = f"{what}: {read} tokens and {request.max_tokens} to write{has}"
    if limit is not None and read + request.max_tokens > limit:
        return Finding("context", "warning", f"{found}: long answers will be cut", _shorter(visit, read, limit))
    if _looks_cut(visit, read):
        return Finding("context", "warning", f"{found}; that is few for its length: the server seems to cut prompts")
    return Finding("context", "ok", found)


def _looks_cut(visit: Visit, read: int) -> bool:
    first = visit.first.answer
    if first is None or not first.prompt_tokens:
        return False
    usual = bytes_of(visit.first_request.messages) / first.prompt_tokens
    return bytes_of(visit.case.longest.messages) / max(read, 1) > CUT_DENSITY * usual


def _density(reply: Reply, request: ChatRequest) -> float:
    """Bytes of a prompt per token: as the first answer tells, else the fewest that are usual."""
    counted = reply.answer.prompt_tokens if reply.answer is not None else None
    return bytes_of(request.messages) / counted if counted else SAFE_BYTES_PER_TOKEN


def _shorter(visit: Visit, tokens: int, limit: int | None) -> tuple[Advice, ...]:
    """How to make the longest prompt fit: shorter passages where that is enough, or a larger context."""
    case = visit.case
    larger = Advice(_LARGER.get(visit.kind or "", "have the server started with a larger context"))
    if case.longest_stage != "queries":
        return (Advice(f"lower the max_tokens, per_call or passage_chars of [negatives.{case.longest_stage}]"), larger)
    if limit is not None:
        excess = 1.1 * (tokens + case.longest.max_tokens - limit)
        letters_per_token = sum(len(turn["content"]) for turn in case.longest.messages) / max(tokens, 1)
        chars = int(case.longest_shown - excess * letters_per_token) // 50 * 50
        if chars > 0:
            return (Advice("then the longest prompt fits", "queries.passage_chars", chars), larger)
    chars = case.recipe.queries.passage_chars
    return (Advice(f"lower queries.passage_chars, which is {chars}"), larger)
