"""The alternative a user would take: a plain TRL `SFTTrainer` script with its defaults.

`python -m benchmarks.trl_baseline --model FOLDER --train FILE.jsonl --steps N --json OUT`, from the repository's
root, in an environment with trl and datasets (`pip install --group bench`); lplan itself isn't needed for that.
`run_trl` starts it as a process of its own and adds what was seen from outside.

What is set is what everyone sets: LoRA on the attention, its learning rate, the number of steps, no report
to a service, the loss of every step in the log; and use_cpu, without which TRL's default bf16 is refused where
there is no GPU (`transformers/training_args.py`, _validate_args: its message says to set it). Where the CPU has no
bf16 instructions `run_trl` takes fp32, as whoever waited for a first step would: torch 2.13 computes bf16 there at
2 GFLOP/s and fp32 at 150.
All else is the default of TRL 1.16 and transformers 5.23:

- weights in float32 whatever the checkpoint's dtype (`trl/trainer/utils.py`, create_model_from_path), adapters in
  float32, bf16 autocast (`trl/trainer/base_config.py`, `bf16 = not fp16`), on a CPU as well;
- activation checkpointing of every layer (`base_config.py`), without re-entrance;
- 8 dialogues a batch, no accumulation, padded to the longest of the batch, cut at 1,024 tokens, no packing
  (`sft_config.py`), drawn in random order with seed 42;
- loss on the completion of prompt/completion rows, on all tokens of `messages` rows (completion_only_loss None);
- the fused head (`trl/kernels/chunked_logprob.py`): no logits are kept, but outside CUDA and XPU it scores every
  position, those without loss and the padding included, and recomputes them in the backward pass;
- fused AdamW, no weight decay, gradients clipped to norm 1, the learning rate falling linearly to 0 without
  warm-up (`transformers/training_args.py`);
- a checkpoint at the end (save_strategy "steps", DefaultFlowCallback), no evaluation;
- glibc's default allocator, torch's default number of threads unless the caller's environment says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lplan.trainer.data.examples import Example

STACK = ("torch", "transformers", "peft", "accelerate", "trl", "datasets")
SETTINGS = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "packing", "padding_free",
    "loss_type", "bf16", "activation_checkpointing", "activation_checkpointing_kwargs", "optim", "learning_rate",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "seed", "save_strategy",
    "eval_strategy", "auto_find_batch_size",
)  # fmt: skip
_TUNED = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "OMP_", "KMP_", "MKL_")
"""Variables that no plain shell has set."""


def run_trl(
    model: Path,
    examples_jsonl: Path,
    steps: int,
    python: Path | None = None,
    *,
    threads: int = 2,
    auto_find_batch_size: bool = False,
) -> dict[str, Any]:
    """Train `steps` steps in a process of its own, with the interpreter `python` (None: this one).

    What `train` says, plus "process": peak RSS and anonymous bytes seen from outside, and wall-clock seconds.
    A model without a chat template is given Llama 2's instruction format, as lplan does. `auto_find_batch_size` is
    Trainer's: from its batch of 8 down by a tenth whenever memory runs out.
    Raises RuntimeError with the end of the log when the run fails or is killed.
    """
    from lplan.planner.chat import LLAMA_2
    from lplan.profiles.machine import this_machine
    from lplan.trainer.data.tokenizer import load_tokenizer

    from .peak_of import peak_of

    with tempfile.TemporaryDirectory(prefix="trl-") as scratch:
        out = Path(scratch) / "result.json"
        command = [
            str((python or Path(sys.executable)).absolute()), "-m", "benchmarks.trl_baseline",
            "--model", str(model.resolve()), "--train", str(examples_jsonl.resolve()),
            "--steps", str(steps), "--json", str(out),
        ]  # fmt: skip
        if not this_machine().computes_bf16:
            command.append("--fp32")
        if auto_find_batch_size:
            command.append("--auto-find-batch-size")
        if not load_tokenizer(model).chat_template:
            template = Path(scratch) / "llama-2.jinja"
            template.write_text(LLAMA_2, encoding="utf-8")
            command += ["--chat-template", str(template)]
        ended = peak_of(
            command, environment=_plain_environment(Path(scratch), threads), folder=Path(__file__).parents[1]
        )
        if ended.returncode:
            raise RuntimeError(f"TRL ended with status {ended.returncode}\n{ended.stderr[-3000:]}")
        result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    result["process"] = {
        "rss_bytes": ended.rss_bytes,
        "anonymous_bytes": ended.anonymous_bytes,
        "wall_s": ended.wall_s,
    }
    return result


def write_prompt_completion(examples: Iterable[Example], path: Path) -> None:
    """Dialogues as the rows on which TRL trains the last answer only, as lplan does."""
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            turns = [{"role": m.role, "content": m.content} for m in example.messages]
            file.write(json.dumps({"prompt": turns[:-1], "completion": turns[-1:]}) + "\n")


def _plain_environment(scratch: Path, threads: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_TUNED)}
    return {**kept, "OMP_NUM_THREADS": str(threads), "HF_HOME": str(scratch / "hf"), "HF_HUB_OFFLINE": "1"}


class PhaseMarks:
    """VmHWM by phase, read on leaving and reset on entering (clear_refs, proc(5)).

    Where the reset isn't allowed, a phase's mark is the highest RSS of the run so far.
    """

    def __init__(self, first: str) -> None:
        self.peaks: dict[str, int] = {}
        self.reset = True
        self._name = first

    def enter(self, name: str) -> None:
        """Leave the present phase for another, or for the same again."""
        status = Path("/proc/self/status").read_text()
        mark_bytes = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        self.peaks[self._name] = max(mark_bytes, self.peaks.get(self._name, 0))
        self._name = name
        try:
            Path("/proc/self/clear_refs").write_bytes(b"5")
        except OSError:
            self.reset = False


@dataclass
class Steps:
    """What each step did: one batch is one optimizer step."""

    batches: list[dict[str, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    began_s: float = 0.0

    def counting(self, collator: Any) -> Any:
        """`collator`, with a count of what it hands out."""

        def collate(rows: Any) -> Any:
            batch = collator(rows)
            self.batches.append(
                {
                    "tokens": int(batch["attention_mask"].sum()),
                    "positions": batch["attention_mask"].numel(),
                    "supervised": int((batch["labels"][:, 1:] != -100).sum()),
                }
            )
            return batch

        return collate

    def ended(self) -> None:
        """A step has ended, and the next one begins with fetching its batch."""
        now_s = time.perf_counter()
        self.step_s.append(now_s - self.began_s)
        self.began_s = now_s

    def rows(self) -> list[dict[str, float]]:
        """A row a step. `tokens_before` are those trained on before the step's loss was computed."""
        made, before = [], 0
        for batch, loss, step_s in zip(self.batches, self.losses, self.step_s, strict=False):
            made.append({**batch, "tokens_before": before, "loss": loss, "step_s": step_s})
            before += batch["tokens"]
        return made


def train(
    model: Path,
    examples: Path,
    steps: int,
    output: Path,
    marks: PhaseMarks,
    chat_template: Path | None = None,
    *,
    bf16: bool = True,
    auto_find_batch_size: bool = False,
) -> dict[str, Any]:
    """The user's script, and what it reached. `chat_template` is a Jinja file for a model without one.

    Tokens are without padding; step times contain fetching the batch; medians leave out the first step.
    """
    from datasets import load_dataset  # type: ignore[import-not-found,unused-ignore]
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found,unused-ignore]

    marks.enter("prepare")
    trainer = SFTTrainer(
        model=str(model),
        args=SFTConfig(
            output_dir=str(output), max_steps=steps, learning_rate=2e-4, logging_steps=1, report_to="none",
            use_cpu=True, bf16=bf16, chat_template_path=str(chat_template) if chat_template else None,
            auto_find_batch_size=auto_find_batch_size,
        ),
        train_dataset=load_dataset("json", data_files=str(examples), split="train"),
        peft_config=LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
            task_type="CAUSAL_LM",
        ),
    )  # fmt: skip
    done = _watch(trainer, marks)
    trainer.train()
    marks.enter("end")
    return {**_settings(trainer), "phases": marks.peaks, "marks_reset": marks.reset, **_summary(done.rows())}


def _watch(trainer: Any, marks: PhaseMarks) -> Steps:
    """Count the batches and follow the steps of a trainer about to run."""
    from transformers import TrainerCallback

    done = Steps()
    trainer.data_collator = done.counting(trainer.data_collator)

    class Watch(TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marks.enter("first step")
            done.began_s = time.perf_counter()

        def on_step_end(self, _args: Any, state: Any, _control: Any, **__: Any) -> None:
            done.ended()
            marks.enter("save" if state.global_step == state.max_steps else "steady step")

        def on_log(
            self, _args: Any, _state: Any, _control: Any, logs: Mapping[str, float], **__: Any
        ) -> None:
            if "loss" in logs:
                done.losses.append(logs["loss"])

    trainer.add_callback(Watch())
    return done


def _settings(trainer: Any) -> dict[str, Any]:
    import torch

    parameters = list(trainer.model.named_parameters())
    adapters = [p for _, p in parameters if p.requires_grad]
    return {
        "versions": {name: version(name) for name in STACK},
        "threads": torch.get_num_threads(),
        "settings": {
            **{name: getattr(trainer.args, name) for name in SETTINGS},
            "weights_dtype": str(next(p.dtype for _, p in parameters if not p.requires_grad)),
            "adapter_dtype": str(adapters[0].dtype),
            "attention": trainer.model.config._attn_implementation,
            "completion_only_loss": trainer.completion_only_loss,
        },
        "parameters": sum(p.numel() for _, p in parameters),
        "trainable_parameters": sum(p.numel() for p in adapters),
    }


def _summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    steady = rows[1:]
    return {
        "steps": rows,
        "step_s": statistics.median(row["step_s"] for row in steady),
        "tokens_per_s": statistics.median(row["tokens"] / row["step_s"] for row in steady),
    }


def main() -> None:
    """Train and store."""
    marks = PhaseMarks("import")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a folder with weights and tokenizer")
    parser.add_argument(
        "--train", type=Path, required=True, help="JSON lines with messages, or prompt and completion"
    )
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps, at least 2")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--chat-template", type=Path, help="a Jinja file, for a model without a template")
    parser.add_argument("--fp32", action="store_true", help="without TRL's default bf16")
    parser.add_argument("--auto-find-batch-size", action="store_true", help="Trainer's; not a default")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("the first step doesn't count: --steps must be at least 2")
    with tempfile.TemporaryDirectory(prefix="trl-run-") as output:
        result = train(
            options.model, options.train, options.steps, Path(output), marks, options.chat_template,
            bf16=not options.fp32, auto_find_batch_size=options.auto_find_batch_size,
        )  # fmt: skip
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['tokens_per_s']:.1f} tokens/s, {max(result['phases'].values()) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
