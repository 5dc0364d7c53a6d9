"""The Markdown templates of the cards."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - the output is Markdown
)


def section(template: str, **manifest: Any) -> str:
    """A section of a data set's card by itself, from the entries of the manifest that it reads."""
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(manifest=manifest)).strip()
