import errno
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from lplan.profiles.errors import LplanError, UsageError
from lplan.trainer.run_folder import RunFolder, default_path

HOLD_LOCK = """
import sys, time
from pathlib import Path
from lplan.trainer.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_create_makes_the_folder_and_its_parents(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs" / "one")
    assert folder.checkpoints.is_dir()
    assert {folder.plan.parent, folder.events.parent, folder.log.parent} == {tmp_path / "runs" / "one"}


def test_create_takes_an_empty_folder(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path).path == tmp_path


def test_create_refuses_a_used_folder_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("old")
    with pytest.raises(UsageError, match="not empty") as refused:
        RunFolder.create(tmp_path)
    assert "--output" in (refused.value.hint or "")
    assert [p.name for p in tmp_path.iterdir()] == ["events.jsonl"]


@pytest.mark.parametrize("below", ["", "inside", "inside/deeper"])
def test_create_refuses_a_file_in_the_way(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as refused:
        RunFolder.create(tmp_path / "file" / below)
    assert refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["/proc/no-such-run", "x" * 300])
def test_create_refuses_an_impossible_place_in_one_line(path: str) -> None:
    with pytest.raises(UsageError, match="run folder"):
        RunFolder.create(Path(path))


def test_create_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def full_disk(self: Path, *args: object, **options: object) -> None:
        if self.name == "checkpoints":
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", full_disk)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="No space left"):
        RunFolder.create(tmp_path / "mine" / "runs" / "one")
    assert list((tmp_path / "mine").iterdir()) == []


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    with folder.lock(), pytest.raises(UsageError, match="another run"), folder.lock():
        pass
    with folder.lock():
        pass


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    command = [sys.executable, "-c", HOLD_LOCK, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match="another run"), folder.lock():
            pass
        holder.kill()
        holder.wait()
    with folder.lock():
        pass


def test_a_lock_left_over_does_not_make_a_folder_used(tmp_path: Path) -> None:
    with RunFolder(tmp_path).lock():
        pass
    assert RunFolder.create(tmp_path).checkpoints.is_dir()


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(LplanError, match="cannot write"), RunFolder(tmp_path / "gone").lock():
        pass


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("smollm2", "2026-11-23-1830-smollm2"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "2026-11-23-1830-smollm2-135m-instruct"),
        ("./my models/Tiny Llama/", "2026-11-23-1830-tiny-llama"),
        ("qwen2.5", "2026-11-23-1830-qwen2.5"),
        ("..", "2026-11-23-1830-model"),
    ],
)
def test_default_path(tmp_path: Path, model: str, name: str) -> None:
    now = datetime(2026, 11, 23, 18, 30, 59)
    assert default_path(model, now, tmp_path) == tmp_path / name


def test_default_path_is_numbered_when_taken(tmp_path: Path) -> None:
    now = datetime(2026, 11, 23, 18, 30)
    for expected in ("2026-11-23-1830-m", "2026-11-23-1830-m-2", "2026-11-23-1830-m-3"):
        path = default_path("m", now, tmp_path)
        assert path.name == expected
        RunFolder.create(path)
