"""A comparison as files: `comparison.json`, and the report that is made from it alone."""

from pathlib import Path

import msgspec

from eval.report.csv_files import write_csv
from eval.report.figures import curves, forests, pareto, write_pictures
from eval.report.page import page
from foils.comparison import Comparison
from foils.errors import UserError
from foils.records import read_record

COMPARISON = "comparison.json"


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes `comparison.json` and all that is made from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPARISON).write_bytes(_encoded(comparison))
    write_report(folder, comparison)


def write_report(folder: Path, comparison: Comparison) -> None:
    """Writes `report.html`, its pictures into `figures/`, and every number as CSV."""
    shown, quality, losses = forests(comparison), pareto(comparison), curves(comparison)
    write_pictures(folder, [*shown, quality, losses])
    (folder / "report.html").write_text(page(comparison, shown, quality, losses), "utf-8")
    write_csv(folder, comparison)


def read_comparison(folder: Path) -> Comparison:
    """The comparison of a folder.

    Raises:
        UserError: there is none, or it does not decode.
    """
    file = folder / COMPARISON
    found = read_record(file, Comparison, "run eval.compare again, which trains and measures nothing anew")
    if found is None:
        raise UserError(f"{file}: no such file; name the folder of a comparison, the recipe's `out`")
    return found


def for_cards(comparison: Comparison) -> bytes:
    """`comparison.json` for a card: without queries and rows, whose texts are not ours to publish."""
    return _encoded(msgspec.structs.replace(comparison, queries=[], examples={}, hardness=None))


def _encoded(comparison: Comparison) -> bytes:
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"
