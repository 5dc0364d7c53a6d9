"""A chat-completions stub: every answer has about 20 tokens, is like no other, and comes after a fixed time.

    python -m tests.bench.stub_server LATENCY_SECONDS

Prints its port, then serves until standard input closes.
"""

import asyncio
import json
import sys
from functools import partial
from itertools import count

from aiohttp import web

NUMBER = "9" * 9
TEXT = f"how do the cards in the catalogue tell which of the two shelves book {NUMBER} has to go back to?"
NUMBERS = count(10**8)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "system_fingerprint": "",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 20, "total_tokens": 140},
    }
).encode()


async def answer(latency, request):
    await request.read()
    await asyncio.sleep(latency)
    body = ANSWER.replace(NUMBER.encode(), str(next(NUMBERS)).encode())
    return web.Response(body=body, content_type="application/json")


async def main(latency):
    app = web.Application()
    app.router.add_post("/v1/chat/completions", partial(answer, latency))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
