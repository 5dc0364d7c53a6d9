"""How a command names a model that judges, and has the LLM of a recipe asked."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builders.llm.client import Llm
from builders.llm.config import LlmConfig, check_llm
from builders.llm.session import identified, llm_session
from foils.errors import UserError

logger = logging.getLogger(__name__)

STORE = Path("outputs/calls.sqlite")


def add_judge_arguments(parser: argparse.ArgumentParser, table: str, sample: str) -> None:
    """Adds the judge's model, or the recipe with its `table`; the answers' store; and what `sample` explains."""
    add = parser.add_argument
    add("--model", help="of --judge cross-encoder: a CrossEncoder folder or Hub id")
    add("--recipe", type=Path, help=f"of --judge llm: a building recipe, for its table {table}")
    add("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="replace a recipe's value")
    add("--store", type=Path, default=STORE, help="the LLM's answers; default: %(default)s")
    add("--sample", type=int, default=100, help=f"{sample}; default: %(default)s")
    add("--seed", type=int, default=42, help="of the sample; default: %(default)s")


def check_judge(judge: str | None, model: str | None, recipe: Path | None, sample: int) -> None:
    """Refuses options that do not go together.

    Raises:
        UserError: names the option.
    """
    for name, option, value in (("cross-encoder", "--model", model), ("llm", "--recipe", recipe)):
        if (judge == name) != (value is not None):
            wrong = "is missing" if value is None else f"belongs to --judge {name}"
            raise UserError(f"{option} {wrong}; wanted --judge cross-encoder --model DIR, or --judge llm --recipe FILE")
    if sample < 1:
        raise UserError(f"--sample {sample}: wanted 1 or more pairs")


@contextmanager
def asking(llm: LlmConfig, store: Path) -> Iterator[Llm]:
    """A session with the LLM; logs at its end how many calls it made and what they cost.

    Raises:
        UserError: the settings contradict each other.
    """
    check_llm(llm)
    with llm_session(identified(llm), store) as session:
        yield session
        cost = f", {session.ledger.cost()} in all" if session.ledger.cost() else ""
        logger.info("%d new LLM calls%s", session.ledger.new_calls, cost)
