"""What is priced and cannot be run is said before anything is loaded."""

import pytest

from lplan.planner import packages
from lplan.planner.recipe import Recipe
from lplan.profiles.errors import LplanError


def on_a_gpu(monkeypatch, **knobs):
    monkeypatch.setattr(packages, "stack_versions", lambda: {"torch": "2.13.0+cu128"})
    packages.require_packages(Recipe(device="cuda", kernel="efficient", allocator="default", **knobs))


@pytest.mark.parametrize(
    "knobs",
    [{"offload": ("optimizer",), "clipping": False}, {"offload": ("weights",), "checkpointing": "full"}],
)
def test_what_is_priced_and_not_run(monkeypatch, knobs):
    with pytest.raises(LplanError, match="priced, and not run yet"):
        on_a_gpu(monkeypatch, **knobs)


@pytest.mark.parametrize(
    "knobs", [{"offload": ("activations",)}, {"offload": ("checkpoints",), "checkpointing": "full"}]
)
def test_what_is_run(monkeypatch, knobs):
    on_a_gpu(monkeypatch, **knobs)
