"""Verifies a model or a data set, from its card back to the corpus.

    python -m cards.verify OWNER/NAME[@REVISION]        on the Hub; datasets/OWNER/NAME where a model has the same name
    python -m cards.verify FOLDER

Walks card, run record, data set tag, manifest and corpus revision; computes hashes, counts and metrics again; prints a
table. Ends with 1 where a link is broken.
"""

import argparse
import sys

from cards.verify.artefact import find
from cards.verify.dataset import dataset_links
from cards.verify.links import Link, table
from cards.verify.model import model_links
from foils.errors import run_entry

EXIT_BROKEN = 1


def verify(reference: str) -> list[Link]:
    """All links of what the user named.

    Raises:
        UserError: it does not exist, or it cannot be read at all.
    """
    artefact = find(reference)
    return list((model_links if artefact.kind == "model" else dataset_links)(artefact))


def _entry() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cards.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("reference", metavar="MODEL_OR_DATASET")
    links = verify(parser.parse_args().reference)
    print(table(links))
    if any(link.status == "broken" for link in links):
        sys.exit(EXIT_BROKEN)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
