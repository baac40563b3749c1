"""Makes the footprints that the package carries: `python -m benchmarks.footprints`, or `make footprints`.

Every catalogue model under the recipes that `lplan estimate` takes by default on a CPU: then the first estimate of a
catalogue model needs no torch. Other versions of the libraries trace anew.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import lplan.planner.store as store_module
from lplan.planner.estimating import shape_of
from lplan.planner.footprint import Footprint
from lplan.planner.recipe import Recipe
from lplan.planner.store import ship
from lplan.planner.tracer import footprints
from lplan.profiles.catalogue import catalogue
from lplan.profiles.find import find_model

FOLDER = Path(store_module.__file__).with_name("footprints")
USUAL = Recipe(seq_len=512, supervised_len=512)
RECIPES = (USUAL, replace(USUAL, checkpointing="full"))


def main() -> None:
    """Trace what is not there, and delete what no longer belongs."""
    console = Console()
    FOLDER.mkdir(exist_ok=True)
    kept: set[Path] = set()
    for alias in catalogue():
        model, began = find_model(alias), time.perf_counter()
        requests = [(recipe, shape_of(recipe)) for recipe in RECIPES]
        for (recipe, _), found in zip(requests, footprints(model, requests), strict=True):
            if isinstance(found, Footprint):
                kept.add(ship(model.config, recipe, found, FOLDER))
            else:
                console.print(f"{alias}: {found}")
        console.print(f"{alias}: {time.perf_counter() - began:.1f} s")
    for path in set(FOLDER.glob("*.json.gz")) - kept:
        path.unlink()
    console.print(f"{len(kept)} footprints, {sum(path.stat().st_size for path in kept):,} bytes")


if __name__ == "__main__":
    main()
