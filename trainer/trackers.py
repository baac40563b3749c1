"""Experiment trackers that a run reports to, by the integrations of transformers' Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from ..profiles.errors import LplanError

TRACKERS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
"""Each with the packages of which one will do (transformers/integrations/integration_utils.py)."""


def require_trackers(names: Sequence[str]) -> None:
    """Raises LplanError for a tracker whose package is not installed."""
    for name in names:
        if not any(find_spec(package) for package in TRACKERS[name]):
            raise LplanError(
                f"--report-to {name} needs the package {name}, which is not installed",
                hint=f"`pip install {name}`, or leave it out: events.jsonl has every metric",
            )
