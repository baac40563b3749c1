"""Data that cannot be trained on is refused before anything is traced; odd data that can be is planned for."""

import json
import re

import pytest
from command_line import CONTEXT, QUESTIONS, write_csv


@pytest.fixture(params=["plan", "fit-and-train"])
def on(request, lplan, model, traced):
    """Runs a command on a data set; a refusal must have come before any tracing."""

    def run(data, *words):
        result = lplan(request.param, "--model", model, "--data", data, "--ram", "2G", *words)
        assert traced == []
        return result

    return run


def test_a_file_that_is_not_there(on):
    message, hint = on("nowhere.csv").refused(2)
    assert message == "there is no file or folder nowhere.csv"
    assert "demo" in hint


@pytest.mark.parametrize(
    ("name", "text", "status", "error"),
    [
        ("empty.csv", "", 1, "empty.csv is empty"),
        ("head.csv", "prompt,response\n", 1, "holds no examples to train on"),
        ("columns.csv", "question,reply\na,b\n", 2, "no known columns among 'question', 'reply'"),
        ("labelled.csv", "text,category\nhello,greeting\n", 2, "no known columns"),
        ("ragged.csv", "prompt,response\na,b,c\n", 1, "3 fields where the head names 2"),
        ("hole.csv", "prompt,response\na,\n", 1, "line 2: response is empty"),
        ("broken.jsonl", '{"prompt": "a"\n', 1, "line 1: broken JSON"),
        ("list.jsonl", "3\n", 1, "not an object"),
        ("silent.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', 1, "no message is the assistant's"),
        ("data.docx", "x", 2, "of no known format"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_as_data(on, tmp_path, name, text, status, error):
    (tmp_path / name).write_text(text)
    assert error in on(tmp_path / name).refused(status)[0]


def test_labels_without_their_task_and_labels_it_does_not_know(on, tmp_path):
    file = tmp_path / "labelled.csv"
    file.write_text("text,category\nhello,greeting\n")
    assert "--task banking77" in on(file).refused(2)[1]
    message, hint = on(file, "--task", "banking77").refused(1)
    assert "has no label 'greeting'" in message
    assert hint


def test_bytes_that_are_no_text(on, tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"prompt,response\nna\xefve,yes\n")
    message, hint = on(tmp_path / "latin.csv").refused(1)
    assert message == "latin.csv, line 2: not UTF-8"
    assert "iconv" in hint


def test_a_folder_without_data(on, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "holds no train file" in on(tmp_path / "folder").refused(2)[0]


def test_every_label_masked(on, data):
    message, hint = on(data, "--seq-len", "2").refused(1)
    assert message == "no token carries loss: every label is masked"
    assert "sequence length 2" in hint


def test_a_model_without_tokenizer(on, model, data):
    (model / "tokenizer.json").unlink()
    message, hint = on(data).refused(1)
    assert "no readable tokenizer" in message
    assert "tokenizer.json" in hint


@pytest.fixture
def long_line(tmp_path):
    """Forty questions and one of about 100,000 tokens, its answer at the end."""
    return write_csv(
        tmp_path / "long.csv", [*QUESTIONS, ("word and word " * 30_000, "Too long; didn't read.")]
    )


def decisions(document):
    return {d["knob"]: d for d in document["decisions"]}


def test_a_line_of_100k_tokens_is_cut_to_the_models_context(lplan, model, long_line):
    result = lplan("plan", "--model", model, "--data", long_line, "--ram", "2G", "--json")
    assert (result.status, result.err) == (0, "")
    assert result.document["recipe"]["seq_len"] <= CONTEXT
    length = decisions(result.document)["sequence length"]
    if result.document["data"]["longest_tokens"] == CONTEXT:  # the long line was not held out
        assert re.search(r"1 of \d+ sequences are cut to the model's context", length["reason"])


def test_a_line_of_100k_tokens_that_does_not_fit_says_what_to_do(lplan, model, long_line, tmp_path):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 131072}))
    rows = [*QUESTIONS, *[("word and word " * 30_000, "Too long.")] * 5]
    data = write_csv(tmp_path / "long.csv", rows)
    result = lplan("plan", "--model", model, "--data", data, "--ram", "2G")
    assert result.status == 3
    error, hint = result.complaint()
    assert re.fullmatch(r"no plan fits 2\.00 GiB: the closest misses by \d+\.\d\d GiB", error)
    assert "machine" in hint or "--ram" in hint
    suggested = re.search(r"--seq-len (\d+), which cuts (\d+) of \d+", result.out)
    again = lplan(
        "plan", "--model", model, "--data", data, "--ram", "2G", "--seq-len", suggested[1], "--json"
    )
    assert (again.status, again.document["estimate"]["fits"]) == (0, True)
    assert f"{suggested[2]} of" in decisions(again.document)["sequence length"]["reason"]


def test_one_example_is_enough_to_plan(lplan, model, tmp_path):
    one = write_csv(tmp_path / "one.csv", QUESTIONS[:1])
    result = lplan("plan", "--model", model, "--data", one, "--ram", "2G", "--json")
    assert (result.status, result.document["data"]["samples"]) == (0, 1)


def test_sequences_of_equal_length_may_go_without_padding(lplan, model, tmp_path):
    same = write_csv(tmp_path / "same.csv", QUESTIONS[:1] * 20)
    words = ("plan", "--model", model, "--ram", "2G", "--padding", "none", "--json", "--data")
    assert lplan(*words, same).document["recipe"]["padding"] == "none"
    ragged = write_csv(tmp_path / "ragged.csv", QUESTIONS)
    message, hint = lplan(*words, ragged).refused(2)
    assert "differ in length" in message
    assert "--batch-size 1" in hint


def test_a_table_of_positions_has_an_end(lplan, model, data):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    words = ("--model", model, "--ram", "2G", "--seq-len", CONTEXT + 1)
    for command in (("estimate", *words), ("plan", *words), ("plan", *words, "--data", data)):
        message, hint = lplan(*command).refused(2)
        assert f"positions for {CONTEXT} tokens, not for {CONTEXT + 1}" in message
        assert hint == f"at most --seq-len {CONTEXT}"
