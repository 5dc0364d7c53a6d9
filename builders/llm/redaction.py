"""Failures without what could be a secret, before they are logged or stored."""

import os
import re

from foils.errors import scrub

_LONGEST_PROBLEM, _SHORTEST_SECRET = 200, 6  # characters


def without_secrets(problem: str) -> str:
    """A failure in short, without addresses (they may hold credentials), keys and tokens.

    >>> without_secrets("POST https://me:pass@host/v1?key=1: answered 401, Bearer sk-abc refused")
    'POST (address) answered 401, Bearer *** refused'
    """
    for name, value in os.environ.items():
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", name) and len(value) >= _SHORTEST_SECRET:
            problem = problem.replace(value, "***")
    problem = re.sub(r"\S*://\S+|\S+:\S+@\S+", "(address)", scrub(problem))
    problem = re.sub(
        r"(?i)\b((?:proxy-)?authorization|(?:\w+[-_ ])?(?:api[-_ ]?key|token|secret)|password)\b[\"']?\s*[:=]\s*"
        r"(?:(?:bearer|basic)\s+)?\S+",
        r"\1 ***",
        problem,
    )
    problem = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 ***", problem)
    problem = re.sub(r"\b(?:sk|pk|hf|gsk|xai|nvapi|ghp|r8)[-_]\S+", "***", problem)
    problem = re.sub(r"(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=.-]{24,}", "***", problem)
    printable = "".join(letter if letter.isprintable() else " " for letter in problem)
    return " ".join(printable.split())[:_LONGEST_PROBLEM]
