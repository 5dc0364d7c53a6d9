"""Measures how real the generated texts of a data set look, and how hard its negatives are.

    python -m builders.realism DATASET [--score-with CROSS_ENCODER] [--query-log FILE] [--dry-run]

The result goes into the data set's manifest (`audit.realism`) and card, its picture into `figures/`. It is printed as
the card's section; with --dry-run it is only printed.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from builders.dataset.folder import MANIFEST, amend, read_complete
from builders.realism.examine import examine
from cards.templates import section
from foils.errors import run_entry

logger = logging.getLogger(__name__)


def main(
    folder: Path, score_with: str | None = None, query_log: Path | None = None, *, store: bool = True
) -> dict[str, Any]:
    """Audits a data set (see `examine`), prints what was found and stores it; returns it.

    Raises:
        UserError: the folder holds no data set, or the model does not exist.
    """
    result, files = examine(folder, score_with, query_log)
    print(section("dataset_realism.md", audit={"realism": result}))
    if store:
        audit = {**read_complete(folder).get("audit", {}), "realism": result}
        amend(folder, {"audit": audit}, files=files)
        logger.info("%s: stored in %s%s", folder, MANIFEST, "".join(f", {name}" for name in files))
    return result


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="the folder of a finished build")
    parser.add_argument("--score-with", metavar="MODEL", help="a cross-encoder that scores all kinds now, for hardness")
    parser.add_argument("--query-log", type=Path, metavar="FILE", help="real queries, one a line, to compare with")
    parser.add_argument("--dry-run", action="store_true", help="print, and leave the data set as it is")
    given = parser.parse_args()
    main(given.dataset, given.score_with, given.query_log, store=not given.dry_run)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
