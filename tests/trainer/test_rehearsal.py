"""What a rehearsal tries, and that it leaves no trace in what is learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from real_run import train
from real_worker import RECIPE, fill, learned

from lplan.benchmarks.tiny_run import CONFIG
from lplan.planner.events import Evaluation, Note, Phase, PhasePeak
from lplan.planner.recipe import Method


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_rehearsed_run_learns_the_same_to_the_bit(tmp_path: Path, method: Method) -> None:
    recipe = replace(RECIPE, method=method)
    rehearsed = train(fill(tmp_path / "rehearsed", recipe, rehearse=True))
    plain = train(fill(tmp_path / "plain", recipe))
    assert (rehearsed.outcome.verdict, plain.outcome.verdict) == ("done", "done")
    assert [p.name for p in rehearsed.of(Phase)][:5] == ["import", "load", "wrap", "rehearsal", "first step"]
    assert "rehearsal" not in {p.name for p in plain.of(Phase)}
    expected, found = learned(plain.folder.path), learned(rehearsed.folder.path)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    losses = [[e.loss for e in run.of(Evaluation)] for run in (rehearsed, plain)]
    assert losses[0] == losses[1]
    assert "rehearsal" in {p.name for p in rehearsed.of(PhasePeak)}
    assert any(note.text.startswith("rehearsed two steps") for note in rehearsed.of(Note))
    assert not list((tmp_path / "rehearsed").glob(".rehearsal*"))


@pytest.mark.slow
def test_a_rehearsal_of_full_fine_tuning_sees_the_optimizers_states_beside_the_activations(
    tmp_path: Path,
) -> None:
    """Of 4 M parameters in fp32: 31 MiB of states, which the first step's backward pass goes without."""
    config = {**CONFIG, "hidden_size": 256, "vocab_size": 8000}
    recipe = replace(RECIPE, method="full", batch_size=8, accumulation=1)
    run = train(fill(tmp_path / "run", recipe, config=config, rehearse=True))
    (rehearsed,) = (peak.rss_bytes for peak in run.of(PhasePeak) if peak.name == "rehearsal")
    steady = max(peak.rss_bytes for peak in run.of(PhasePeak) if peak.name == "steady step")
    assert rehearsed > steady - 8 * 2**20
