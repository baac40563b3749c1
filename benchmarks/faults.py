"""Everything that breaks a run, done to a real one: what was lost, and what the user reads.

`python -m benchmarks.faults`. A tiny model, eight steps, a checkpoint every two; after each fault the run is continued
and compared, to the bit, with one that was never disturbed. About ten minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .fault_cases import FAULTS, Fault, endure, fill
from .machine_info import store
from .tiny_run import train


def row_of(fault: Fault, folder: Path, undisturbed: Path) -> dict[str, Any]:
    """A fault's row, for the table and the file."""
    if not fault.possible():
        return {"fault": fault.name, "promised": fault.lost, "kept": None}
    broken = endure(fault, fill(folder), undisturbed)
    kept = bool(
        broken.reads
        and broken.verdict == fault.verdict
        and (not fault.goes_on or (broken.same and (broken.lost or 0) <= fault.lost))
    )
    return {"fault": fault.name, "promised": fault.lost, **asdict(broken), "kept": kept}


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    if row["kept"] is None:
        return f"{row['fault']:<30} not possible here"
    lost = "all" if row["lost"] is None else row["lost"]
    same = {True: "same", False: "DIFFERS", None: "–"}[row["same"]]
    word = "" if row["kept"] else "BROKEN "
    return f"{row['fault']:<30} {lost!s:>4} of {row['promised']}  {same:<7} {word}{row['verdict']}: {row['reads']}"


def main() -> None:
    """Do it, store it, say it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="faults whose name contains this; nothing is stored")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as place:
        undisturbed = fill(Path(place) / "undisturbed")
        train(undisturbed)
        print(f"{'fault':<30} lost (promised)  result  what the user reads")
        rows = []
        for number, fault in enumerate(FAULTS):
            if only is None or only in fault.name:
                rows.append(row_of(fault, Path(place) / str(number), undisturbed))
                print(line(rows[-1]), flush=True)
    if only is None:
        store("faults", rows)


if __name__ == "__main__":
    main()
