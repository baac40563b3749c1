"""What a rehearsal tries, and that it leaves no trace in what is learned."""

from pathlib import Path

import torch
from real_run import train
from real_worker import fill, learned

from lplan.planner.events import Evaluation, Note, Phase, PhasePeak


def test_a_rehearsed_run_learns_the_same_to_the_bit(tmp_path: Path) -> None:
    rehearsed = train(fill(tmp_path / "rehearsed", rehearse=True))
    plain = train(fill(tmp_path / "plain"))
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
