"""Computes the figures of stored results again, from their rankings and judgements: no model is loaded.

python -m eval.rescore outputs/results [MORE ...]
"""

import argparse
import sys
from pathlib import Path

from eval.report import metrics_table
from eval.results import RESULT, rescore
from foils.errors import UserError, run_entry


def main(folders: list[Path]) -> None:
    """Renews every result under some folders and prints its figures.

    Raises:
        UserError: there is none, or one is broken.
    """
    found = sorted({file.parent for folder in folders for file in folder.rglob(RESULT)})
    if not found:
        raise UserError(f"{', '.join(map(str, folders))}: no {RESULT} in it; name a folder of results of eval.run")
    for folder in found:
        result = rescore(folder)
        print(f"{metrics_table([(result.model, [result])])}\n")


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RESULTS")
    main(parser.parse_args().folders)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
