"""YAML with a head that says what was planned, and what the file cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from ..allocator import environment_of
from .job import ExportJob

_WIDTH = 100


def yaml_text(
    job: ExportJob, data: Mapping[str, Any], unsaid: Mapping[str, str], command: str, *more: str
) -> str:
    """The file's text."""
    import yaml

    recipe = job.recipe
    settings = environment_of(recipe.allocator, threads=recipe.threads)
    words = [f"{name}={value}" for name, value in settings.items()]
    lines = [
        *(part for line in job.summary() for part in wrap(line, _WIDTH)),
        "Start it with the environment of the plan:",
        f"  {' '.join([*words, command])}",
        *more,
    ]
    for knob, why in unsaid.items():
        lines += wrap(f"Otherwise than planned: {knob.replace('_', ' ')}: {why}.", _WIDTH)
    head = "".join(f"# {line}\n" for line in lines)
    body: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
    return head + body
