"""What the Hub says: JSON answers, pages, and refusals with the headers by which clients tell them apart."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse


class RefusedError(Exception):
    """A request that is answered with an error.

    `code` becomes `X-Error-Code`, from which huggingface_hub chooses the exception it raises.
    """

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.headers["X-Error-Message"] = quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[]_`{|}~")
        if code:
            self.headers["X-Error-Code"] = code

    def answer(self) -> JSONResponse:
        return JSONResponse({"error": self.message}, self.status, self.headers)


def no_revision(revision: str) -> RefusedError:
    return RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(message: str = "Entry not found", headers: Mapping[str, str] | None = None) -> RefusedError:
    return RefusedError(404, message, "EntryNotFound", headers)


def page(request: Request, rows: list, size: int, url: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """One page of `rows`. Clients follow the `Link` header as it stands, so it has to be an absolute URL."""
    start = int(request.query_params.get("cursor", "0"))
    headers = dict(headers or {})
    if start + size < len(rows):
        query = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
        query.append(("cursor", str(start + size)))
        headers["Link"] = f'<{url}{request.scope["path"]}?{urlencode(query)}>; rel="next"'
    return JSONResponse(rows[start : start + size], headers=headers)
