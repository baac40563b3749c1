"""Offloading from the command line, for a GPU that is not here."""

import pytest

pytestmark = pytest.mark.usefixtures("real_tracing")


def test_what_is_offloaded_is_told_by_the_host(lplan, model):
    words = ("estimate", "--model", model, "--hardware", "a100-80gb", "--json")
    stays = lplan(*words).document
    goes = lplan(*words, "--offload", "activations", "--offload", "optimizer").document
    assert stays["host"]["pinned_bytes"] == stays["host"]["pageable_bytes"] == 0
    assert goes["host"]["pinned_bytes"] > 0
    assert goes["recipe"]["offload"] == ["activations", "optimizer"]
    assert goes["recipe"]["clipping"] is False
    assert goes["cuda"]["allocated_bytes"] < stays["cuda"]["allocated_bytes"]
    assert any("save_on_cpu" in line for line in goes["assumptions"])
