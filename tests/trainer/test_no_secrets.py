"""A run whose libraries print the user's access token, in a traceback and in an error: nobody repeats it."""

import json

from real_run import train
from real_worker import fill

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"


def test_a_token_in_a_librarys_error_is_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = fill(tmp_path / "run")
    job = json.loads((folder / "job.json").read_text())
    job |= {"model": f"https://user:{TOKEN}@nowhere/model", "recipe": {**job["recipe"], "init": "pretrained"}}
    (folder / "job.json").write_text(json.dumps(job))
    ended = train(folder)
    assert ended.outcome.verdict == "failed"
    assert "nowhere/model" in ended.outcome.explanation
    (folder / "job.json").unlink()
    written = "".join(file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file())
    assert "nowhere/model" in written
    assert TOKEN not in written + ended.outcome.explanation


def test_a_token_in_a_crash_is_not_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = fill(tmp_path / TOKEN)
    (folder / "train.ids.bin").unlink()
    ended = train(folder)
    log = (folder / "worker.log").read_text()
    assert "Traceback" in log
    assert "***" in log
    assert TOKEN not in log + ended.outcome.explanation
