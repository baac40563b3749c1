"""Whatever is typed, or lies in a file: a clear line and an exit status, in time, and nothing else is touched.

Hypothesis draws the same examples every time; LPLAN_FUZZ=50 draws fifty times as many, and others each time.
"""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pytest
from command_line import CONFIG, CommandLine, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lplan import cli
from lplan.planner import documents
from lplan.planner.events import Outcome, to_line
from lplan.profiles.gpu import GpuSearch
from lplan.trainer.checkpoints import newest_good
from lplan.trainer.run_folder import RunFolder

from ..report import samples

COMMANDS = cli.every_command()

TIMES = int(os.environ.get("LPLAN_FUZZ", "0"))
LONGEST_S = 20.0


class HangError(BaseException):
    """A command that goes on and on; no Exception, which the command line would explain."""


def examples(number: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=number * (TIMES or 1),
        derandomize=not TIMES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def no_gpu_and_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzed plan that comes through is not trained."""

    def end(*_: Any, folder: RunFolder, **__: Any) -> Outcome:
        folder.events.touch()
        return Outcome(
            t_s=0.0, verdict="failed", explanation="not run", hint="h", exit_code=1, phase=None, step=None
        )

    for module in ("fit", "limited_evaluation"):
        monkeypatch.setattr(f"lplan.trainer.{module}.supervise", end)
    for room in ("machine", "budget"):
        monkeypatch.setattr(f"lplan.profiles.{room}.find_gpus", lambda: GpuSearch(gpus=(), reason="none"))


@pytest.fixture
def sound(lplan: CommandLine, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command; it ends in time, with a known status, says what is wrong in a line, and leaves all as it was."""
    (tmp_path / "thesis.tex").write_text("years of work")

    def run(*words: object, new: tuple[str, ...] = ()) -> Result:
        result = in_time(lplan, *words)
        told = f"{words}\n{result.err[-2000:]}"
        assert result.status in (0, 1, 2, 3), told
        assert "Traceback" not in result.err + result.out, told
        assert "this is a bug in lplan" not in result.err, told
        if result.status:
            assert result.err.count("error: ") >= 1, told
            assert result.err.splitlines()[-1].startswith("hint: "), told
        touched = {
            path
            for path in {*result.after, *result.before}
            if result.after.get(path) != result.before.get(path)
        }
        assert all(path.startswith(new) for path in touched), (told, touched)
        return result

    return run


def in_time(lplan: CommandLine, *words: object) -> Result:
    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"{words} took more than {LONGEST_S:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        return lplan(*words)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
ODD = st.sampled_from(
    ["", " ", "-", "--", "0", "-1", "1e309", "nan", "inf", "9" * 40, "1.5", "../../etc/passwd", "/", "/dev/null",
     "a/b/c", "~", "$HOME", "%s", "{}", "[bold]", "\x1b[31m", "é" * 99, "re:(", "re:(a+)+$", "q_proj=0", "=", ",", ",,",
     "1-", "5-1", "8G", "all-linear", "demo", "<script>", "none", "every-2", "file://x", "https://x/y", "null", "a\nb"]
)  # fmt: skip
WORD = ODD | TEXT | st.integers(-(2**70), 2**70).map(str) | st.floats().map(str)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
GONE = object()


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document of which one to three parts are others, or are gone."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(parts(document))
        if not paths:
            break
        *way, last = draw(st.sampled_from(paths))
        place = document
        for step in way:
            place = place[step]
        value = draw(st.just(GONE) | VALUE)
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return document


def parts(document: Any, *way: Any) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, (dict, list)):
            yield from parts(value, *way, key)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file of which some bytes are others, or that ends early."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, min(len(data), 4096) - 1)))
        data[place : place + 1] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


def flags(name: str) -> list[click.Parameter]:
    # made-up footprints are a CPU's
    skipped = (
        "pid",
        "output",
        "resume",
        "plan_file",
        "svg",
        "png",
        "html",
        "text",
        "messages",
        "vram",
        "drawn",
        "hardware",
    )
    return [p for p in COMMANDS[name].params if isinstance(p, click.Option) and p.name not in skipped]


@st.composite
def wordy(draw: st.DrawFn, name: str) -> list[str]:
    """Options of a command with values that are sometimes among its own."""
    words = []
    for option in draw(st.lists(st.sampled_from(flags(name)), max_size=5, unique_by=lambda p: p.name)):
        assert isinstance(option, click.Option)
        if option.is_flag:
            words.append(option.opts[0])
            continue
        own = (
            st.sampled_from(option.type.choices)
            if isinstance(option.type, click.Choice)
            else st.integers(1, 64)
        )
        words.append(f"{option.opts[0]}={draw(own.map(str) | WORD)}")
    return words


@pytest.mark.parametrize(
    ("name", "number"),
    [("estimate", 80), ("plan", 8), ("compare", 4), ("fits", 4), ("data", 6), ("doctor", 8), ("models", 3),
     ("history", 3)],
)  # fmt: skip
def test_any_words(name: str, number: int, sound: Callable[..., Result], model: Path) -> None:
    usual = {"data": ("demo",), "fits": ("--ram", "2G")}.get(name, ()) + (
        ("--model", model) if any(p.name == "model" for p in flags(name)) else ()
    )

    @examples(number)
    @given(wordy(name))
    def try_it(words: list[str]) -> None:
        sound(name, *usual, *words)

    try_it()


@examples(100)
@given(st.lists(st.sampled_from([*COMMANDS, "--json", "--model", "--debugger"]) | WORD, max_size=4))
def test_any_command_line(sound: Callable[..., Result], words: list[str]) -> None:
    if "watch" not in words and "fit-and-train" not in words and "-h" not in words:
        sound(*words)


@examples(40)
@given(changed(dict(CONFIG)) | VALUE)
def test_any_config(sound: Callable[..., Result], model: Path, config: Any) -> None:
    (model / "config.json").write_text(json.dumps(config))
    sound("estimate", "--model", model, "--ram", "2G")


def test_any_checkpoint(sound: Callable[..., Result], model: Path) -> None:
    file, index = model / "model.safetensors", model / "model.safetensors.index.json"
    content = file.read_bytes()
    shard = model / "model-00001-of-00001.safetensors"
    listed = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": shard.name}}

    @examples(30)
    @given(damaged(content[:200] + content[-8:]) | damaged(content))
    def in_one_file(data: bytes) -> None:
        file.write_bytes(data)
        sound("estimate", "--model", model, "--ram", "2G")

    @examples(20)
    @given(changed(listed) | VALUE)
    def by_an_index(document: Any) -> None:
        index.write_text(json.dumps(document))
        sound("estimate", "--model", model, "--ram", "2G")

    in_one_file()
    file.unlink()
    shard.write_bytes(content)
    by_an_index()


ROW = st.dictionaries(
    st.sampled_from(["prompt", "response", "messages", "text", "category", "question", "answer"]) | TEXT,
    VALUE,
    max_size=3,
)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_any_data(suffix: str, sound: Callable[..., Result], model: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / f"fuzzed.{suffix}"
    rows = st.lists(ROW, max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    known = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 12
    content = known if "json" in suffix else data.read_bytes()

    @examples(12)
    @given(
        rows | damaged(content) | st.binary(max_size=60) | st.lists(TEXT).map(lambda t: ",".join(t).encode())
    )
    def try_it(content: bytes) -> None:
        file.write_bytes(content)
        sound("data", file, "--model", model)

    try_it()


def test_any_plan(
    sound: Callable[..., Result], lplan: CommandLine, model: Path, data: Path, tmp_path: Path
) -> None:
    """Damaged in earnest: the digest is that of the damaged plan."""
    file = tmp_path / "plan.json"
    result = lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--output", file)
    assert result.status == 0, result.err
    plan = json.loads(file.read_text())
    del plan["digest"]

    @examples(40)
    @given(changed(plan) | VALUE)
    def try_it(document: Any) -> None:
        if isinstance(document, dict):
            document = {**document, "digest": documents._digest(document)}
        file.write_text(json.dumps(document))
        sound("export", "--plan", file, "--to", "hf-script")
        sound(
            "fit-and-train",
            "--plan",
            file,
            "--output",
            tmp_path / "run",
            "--quiet",
            new=(str(tmp_path / "run"),),
        )
        import shutil

        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    try_it()


def test_any_record(
    sound: Callable[..., Result], lplan: CommandLine, model: Path, data: Path, tmp_path: Path
) -> None:
    """A run's folder as anything may have left it: report, why, watch, history and what is learned from it."""
    run = tmp_path / "run"
    run.mkdir()
    lines = [json.loads(to_line(event)) for event in samples.run_events()]
    kinds = {line["kind"]: line for line in lines}
    lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--output", run / "plan.json")
    evaluation = {"schema": "lplan.evaluate/1", "loss": {"after": 1.0}, "samples": [{"after": "<b>"}]}

    @examples(30)
    @given(
        st.tuples(*(changed(kinds[kind]) for kind in kinds)),
        changed(evaluation) | VALUE,
        st.binary(max_size=9),
    )
    def try_it(events: tuple[Any, ...], evaluated: Any, tail: bytes) -> None:
        text = "".join(json.dumps(event) + "\n" for event in (*lines[:40], *events))
        (run / "events.jsonl").write_bytes(text.encode() + tail)
        (run / "evaluation.json").write_text(json.dumps(evaluated))
        sound(
            "report",
            run,
            "--markdown",
            run / "report.md",
            "--svg",
            run / "m.svg",
            "--html",
            run / "r.html",
            new=(str(run),),
        )
        sound("report", run, "--json")
        sound("why", run)
        sound("watch", run, new=(str(run),))

    try_it()


def test_any_history(sound: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lplan.planner.versions import stack_versions

    store = tmp_path / "learned"
    store.mkdir()
    monkeypatch.setenv("LPLAN_DATA", str(store))
    record = {
        "schema": "lplan.run-record/1", "time": "2026-11-24T02:00:00+00:00", "folder": "runs/a",
        "machine": os.uname().nodename, "model": "m", "verdict": "done", "versions": dict(stack_versions()),
        "recipe": {"device": "cpu", "batch_size": 2}, "phases": {"load": [600, 620], "steady step": [1000, 1040]},
        "offsets": {}, "steps": 10, "predicted_tokens_per_s": 271.0, "measured_tokens_per_s": 222.0,
    }  # fmt: skip

    @examples(25)
    @given(
        st.lists(changed(record), min_size=1, max_size=2),
        changed({"offsets": {"load": 3}, "runs": 3}) | VALUE,
    )
    def try_it(records: list[Any], calibration: Any) -> None:
        lines = [record, record, record, *records]
        (store / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (store / "calibration.json").write_text(json.dumps(calibration))
        for verb in ("history", "drift", "calibrate"):
            sound(verb, new=(str(store),))

    try_it()


def test_any_log(sound: Callable[..., Result], tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    known = (
        b"CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 14.75 GiB of which "
        b"235.06 MiB is free. Of the allocated memory 14.06 GiB is allocated by PyTorch\n"
        b"Killed process 12 (python) anon-rss:12kB"
    )

    @examples(25)
    @given(damaged(known) | st.binary(max_size=200))
    def try_it(content: bytes) -> None:
        log.write_bytes(content)
        sound("why", "--log", log)

    try_it()


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    """A base with all its weights, and an adapter of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(**CONFIG)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(model)
    base = AutoModelForCausalLM.from_pretrained(model)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_any_adapter(sound: Callable[..., Result], model: Path, adapter: Path, tmp_path: Path) -> None:
    config, weights = adapter / "adapter_config.json", adapter / "adapter_model.safetensors"
    words, content = json.loads(config.read_text()), weights.read_bytes()
    import shutil

    def merge() -> None:
        output = tmp_path / "merged"
        sound("merge", adapter, "--model", model, "--output", output, "--no-check", new=(str(output),))
        shutil.rmtree(output, ignore_errors=True)

    @examples(30)
    @given(changed(words) | VALUE)
    def configured(document: Any) -> None:
        config.write_text(json.dumps(document))
        merge()
        sound("generate", adapter, "hi", "--max-tokens", 1)

    @examples(20)
    @given(damaged(content))
    def weighed(data: bytes) -> None:
        weights.write_bytes(data)
        merge()

    configured()
    config.write_text(json.dumps(words))
    weighed()


def test_any_job(
    sound: Callable[..., Result], lplan: CommandLine, model: Path, data: Path, tmp_path: Path
) -> None:
    """A run goes on, is evaluated, is asked: from a folder whose job and checkpoints anyone may have changed."""
    run = tmp_path / "run"
    words = ("--model", model, "--data", data, "--ram", "2G", "--output", run, "--quiet", "--max-steps", "2")
    assert lplan("fit-and-train", *words).status == 1  # not run, see above
    content = json.loads((run / "job.json").read_text())
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 4}))
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"\0" * 16)
    manifest = {"schema": "lplan.checkpoint/1", "files": {"../../thesis.tex": [13, "0" * 64]}}

    @examples(20)
    @given(changed(content) | VALUE, changed(manifest) | VALUE)
    def try_it(job: Any, listed: Any) -> None:
        (run / "job.json").write_text(json.dumps(job))
        checkpoint = run / "checkpoints" / "step-00000001"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "manifest.json").write_text(json.dumps(listed))
        assert newest_good(run / "checkpoints")[0] is None or not (listed or {}).get("files")
        sound("fit-and-train", "--resume", run, "--quiet", new=(str(run),))
        sound("evaluate", run, new=(str(run),))
        sound("generate", run, "hi", "--max-tokens", 1)

    try_it()


def test_any_foreign_configuration(sound: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    file = tmp_path / "theirs.yml"
    known = {
        "base_model": str(model), "adapter": "lora", "lora_r": 8, "lora_target_modules": ["q_proj"],
        "micro_batch_size": 2,
        "sequence_len": 64, "gradient_accumulation_steps": 4, "bf16": True, "datasets": [{"path": "x", "type": "y"}],
    }  # fmt: skip

    @examples(30)
    @given(
        changed(known).map(json.dumps)
        | damaged(json.dumps(known).encode()).map(lambda b: b.decode("latin-1"))
        | TEXT
    )
    def try_it(text: str) -> None:
        file.write_text(text)
        sound("estimate", "--from", file, "--ram", "2G")

    try_it()
