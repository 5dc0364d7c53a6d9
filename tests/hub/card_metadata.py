"""Cards: the metadata on top of a README.md."""

import json
import re

import yaml
from starlette.responses import JSONResponse

from tests.hub.call import Call

FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)


def validate_yaml(call: Call) -> JSONResponse:
    """Checks the metadata on top of a card: the YAML has to parse, and to be a mapping."""
    content = str(call.json.get("content", ""))
    match = FRONT_MATTER.match(content)
    if match is None:
        warning = "empty or missing yaml metadata in repo card"
        return JSONResponse({"errors": [], "warnings": [{"message": warning}]})
    error = _yaml_error(match[1])
    if error is None:
        return JSONResponse({"errors": [], "warnings": []})
    return JSONResponse({"error": error, "errors": [{"message": error}], "warnings": []}, 400)


def _yaml_error(text: str) -> str | None:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return f"YAML Metadata Error: {error}"
    if not isinstance(data, dict | None):
        return "YAML Metadata Error: the metadata is not a mapping"
    return None


def card_data(text: str) -> dict:
    """The metadata on top of a card, as far as it can be read."""
    match = FRONT_MATTER.match(text)
    if match is None or _yaml_error(match[1]):
        return {}
    return json.loads(json.dumps(yaml.safe_load(match[1]) or {}, default=str))  # YAML knows dates, JSON does not
