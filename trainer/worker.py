"""The worker process: `python -m lplan.trainer.worker RUN_FOLDER`. Loads, wraps, trains, evaluates, saves."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from ..profiles.errors import LplanError
from ..profiles.secrets import redacted
from .channel import Channel
from .checkpoints import list_checkpoints, newest_good
from .health import DivergedError, NothingLearnedError
from .job import Job, TokenFile

_POLL_S = 0.01


def main(argv: list[str]) -> int:
    """Run the job of a folder; the exit status."""
    folder = Path(argv[0])
    channel = Channel.from_environment()
    stop_asked: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_asked.append(True))
    faulthandler.register(signal.SIGQUIT)
    try:
        run(folder, channel, stop_asked)
    except LplanError as error:
        repeats = True if isinstance(error, NothingLearnedError) else None
        channel.failure(str(error), hint=_hint(error, folder), exit_code=error.exit_code, repeats=repeats)
        return error.exit_code
    if stop_asked:
        channel.left()
    return 0


def _hint(error: LplanError, folder: Path) -> str | None:
    """With a command to go on by, where a lower learning rate may help."""
    good, _ = newest_good(folder / "checkpoints") if isinstance(error, DivergedError) else (None, [])
    if good is None:
        return error.hint
    rate = Job.read(folder).schedule.learning_rate / 10
    command = f"lplan fit-and-train --resume {folder} --learning-rate {rate:g}"
    return f"{error.hint}; or go on from the checkpoint after step {good.step}: `{command}`"


def run(folder: Path, channel: Channel, stop_asked: list[bool]) -> None:
    """Everything between the start of the process and the saved adapter, phase by phase."""
    channel.phase("import")
    import torch

    from ..planner.tracing.model import wrap
    from .batches import TokenDataset
    from .evaluation.each_epoch import SampleRequests
    from .evaluation.of_run import evaluate_briefly
    from .loading import load_base, prepared
    from .rehearsal import rehearse
    from .reporter import Cadence, Reporter
    from .training import PlannedTrainer

    job = Job.read(folder)
    torch.set_num_threads(job.recipe.threads)
    torch.manual_seed(job.schedule.seed)
    train = TokenDataset(TokenFile(folder, "train"))
    held_out = TokenDataset(TokenFile(folder, "validation"))
    if job.device is not None:
        from .device import HeldDevice, memory_now

        channel.device_peak = HeldDevice(job.device).peak_since_last_asked
        channel.device_memory = memory_now
    channel.phase("load")
    base = load_base(job)
    channel.phase("wrap")
    model = wrap(prepared(base, job.recipe), job.recipe)
    checkpoint, damaged = newest_good(folder / "checkpoints")
    for damage in damaged:
        channel.note(damage)
    if job.rehearse and checkpoint is None:
        go_on: list[bool] = []
        signal.signal(signal.SIGUSR2, lambda *_: go_on.append(True))
        channel.phase("rehearsal")
        rehearse(job, model, folder, train, held_out if len(held_out) else None)
        channel.phase_peak()
        while channel.connected and not go_on and not stop_asked:
            time.sleep(_POLL_S)
        if stop_asked:
            return
    reporter = Reporter(channel, stop_asked)
    signal.signal(signal.SIGUSR1, lambda *_: reporter.free_asked.append(True))
    if job.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
    trainer = PlannedTrainer(
        job, model, str(folder / "checkpoints"), train, held_out if len(held_out) else None
    )
    trainer.add_callback(reporter)
    reporter.trainer = trainer
    reporter.samples = SampleRequests(folder, model, job.recipe)
    reporter.cadence = Cadence(job.checkpoint_steps)
    trainer.on_unsaved = lambda error: _unsaved(channel, folder, trainer.state.global_step, error)
    began_s = time.monotonic()
    if checkpoint is None:
        trainer.train()
    else:
        channel.note(f"continues after step {checkpoint.step}, from its checkpoint")
        channel.phase("resume")
        trainer.continue_from(checkpoint)
    trained_s = time.monotonic() - began_s
    if not stop_asked:
        reporter.evaluate()
    channel.phase("save")
    save(model, folder / "adapter")
    channel.note(f"{_alive(model)}adapter saved")
    if not stop_asked:
        channel.phase("evaluation")
        if told := evaluate_briefly(folder, model, job, trained_s):
            channel.note(told)
    channel.phase_peak()


def save(model: Any, folder: Path) -> None:
    """Write the adapter, or the whole model after full fine-tuning, as safetensors; aside first, then renamed."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(str(aside), safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _unsaved(channel: Channel, folder: Path, step: int, error: OSError) -> None:
    """A full disk costs the checkpoint, not the run; a run folder that is gone ends it."""
    if not folder.is_dir():
        raise LplanError(
            f"the run folder {folder} was removed while the run was going on",
            hint="what was learned is lost with it; start again with --output",
        ) from error
    kept = next(
        (f"the one after step {good.step} stays" for good in list_checkpoints(folder / "checkpoints")), ""
    )
    why = error.strerror or str(error)
    channel.note(
        f"no checkpoint after step {step}: {why}; {kept or 'there is none yet'}, and the run goes on"
    )


def _alive(model: Any) -> str:
    """How many adapters moved away from zero: a silent failure of checkpointing trains nothing."""
    moved = [bool(p.detach().any()) for name, p in model.named_parameters() if ".lora_B." in name]
    return f"{sum(moved)} of {len(moved)} adapters have learned; " if moved else ""


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of a library's error goes to worker.log, without access tokens."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


if __name__ == "__main__":
    sys.excepthook = _tell
    sys.exit(main(sys.argv[1:]))
