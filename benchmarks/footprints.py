"""Makes the footprints that the package carries: `python -m benchmarks.footprints`, or `make footprints`.

Every catalogue model under the recipes that `lplan estimate` takes by default, with and without recomputation: on a
CPU, on a GPU without bf16 and on one with it. Then the first estimate of a catalogue model there needs no torch. Other
versions of the libraries trace anew.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import lplan.planner.store as store_module
from lplan.planner.estimating import shape_of
from lplan.planner.footprint import Footprint
from lplan.planner.recipe import Recipe
from lplan.planner.setting import understand
from lplan.planner.store import ship
from lplan.planner.tracer import footprints
from lplan.profiles.catalogue import catalogue
from lplan.profiles.find import find_model

FOLDER = Path(store_module.__file__).with_name("footprints")
USUAL = Recipe(seq_len=512, supervised_len=512)
GPUS = ("t4", "a100-40gb")
AT_A_TIME = 2


def recipes(alias: str) -> list[Recipe]:
    """What is shipped of a model."""
    asked = [{"hardware": name, "ram": None, "vram": None} for name in GPUS]
    usual = [USUAL, *(understand(alias, one)[0].recipe for one in asked)]
    return [replace(recipe, checkpointing=how) for recipe in usual for how in ("none", "full")]


def shipped(alias: str) -> tuple[list[Path], str]:
    """The files of a model, made now, and what is to be said of it."""
    model, began = find_model(alias), time.perf_counter()
    kept, said = [], ""
    requests = [(recipe, shape_of(recipe)) for recipe in recipes(alias)]
    for (recipe, _), found in zip(requests, footprints(model, requests), strict=True):
        if isinstance(found, Footprint):
            kept.append(ship(model.config, recipe, found, FOLDER))
        else:
            said += f"{found}; "
    return kept, f"{alias}: {said}{time.perf_counter() - began:.1f} s"


def main() -> None:
    """Trace what is not there, and delete what no longer belongs."""
    console = Console()
    FOLDER.mkdir(exist_ok=True)
    kept: set[Path] = set()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for files, told in pool.map(shipped, catalogue()):
            kept.update(files)
            console.print(told)
    for path in set(FOLDER.glob("*.json.gz")) - kept:
        path.unlink()
    console.print(f"{len(kept)} footprints, {sum(path.stat().st_size for path in kept):,} bytes")


if __name__ == "__main__":
    main()
