"""Makes a comparison's page, pictures and CSV again from its `comparison.json`, and prints its tables.

python -m eval.report outputs/quickstart
"""

import argparse
import sys
from pathlib import Path

from eval.report.files import write_report
from eval.report.terminal import comparison_text
from foils.comparison import read_comparison
from foils.errors import run_entry


def main(folder: Path) -> None:
    """Writes the report into the folder and prints the tables.

    Raises:
        UserError: the folder holds no comparison, or a broken one.
    """
    comparison = read_comparison(folder)
    write_report(folder, comparison)
    print(f"{comparison_text(comparison)}\n\nreport    {folder / 'report.html'}")


def _entry() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    main(parser.parse_args().folder)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
