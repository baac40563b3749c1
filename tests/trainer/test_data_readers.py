"""Data sets of every format, whole and broken."""

import csv
import hashlib
import json
import sys

import pytest

from lplan.profiles.errors import LplanError, UsageError
from lplan.trainer.data.readers import read_examples

ROWS = [{"prompt": f"question {i}", "response": f"antwort {i} ä"} for i in range(20)]


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json_array(path, rows):
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def contents(example):
    return tuple(m.content for m in example.messages)


def everything(data):
    return {contents(e) for split in (data.train, data.validation, data.test) for e in split}


WRITERS = [
    ("data.csv", write_csv, "csv"),
    ("data.jsonl", write_jsonl, "jsonl"),
    ("data.json", write_jsonl, "json"),
    ("data.json", write_json_array, "json"),
    ("data.parquet", write_parquet, "parquet"),
]


@pytest.mark.parametrize(("name", "write", "format_name"), WRITERS)
def test_every_format_gives_the_same_dialogues(tmp_path, name, write, format_name):
    data = read_examples(str(write(tmp_path / name, ROWS)), task=None)
    assert everything(data) == {(row["prompt"], row["response"]) for row in ROWS}
    assert data.format == format_name
    assert data.samples == 20


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "completion": "a"}, ("q", "a")),
        ({"question": "q", "answer": "a"}, ("q", "a")),
        ({"instruction": "q", "output": "a"}, ("q", "a")),
        ({"instruction": "q", "input": "text", "output": "a"}, ("q\n\ntext", "a")),
        ({"instruction": "q", "input": "", "output": "a"}, ("q", "a")),
        ({"system": "s", "prompt": "q", "response": "a"}, ("s", "q", "a")),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            ("q", "a"),
        ),
    ],
)
def test_columns_as_public_data_sets_name_them(tmp_path, row, expected):
    data = read_examples(str(write_jsonl(tmp_path / "d.jsonl", [row])), task=None)
    assert contents(data.train[0]) == expected


def test_pairs_get_the_tasks_system_prompt_unless_they_bring_one(tmp_path):
    rows = [{"prompt": "q", "response": "a"}, {"system": "own", "prompt": "q", "response": "a"}]
    data = read_examples(str(write_jsonl(tmp_path / "d.jsonl", rows)), task="banking77")
    assert data.train[0].messages[0].content.startswith("You are a customer service assistant")
    assert data.train[1].messages[0].content == "own"


@pytest.mark.parametrize("label_column", ["category", "label"])
def test_labelled_texts_become_dialogues_of_the_task(tmp_path, label_column):
    path = write_csv(tmp_path / "d.csv", [{"text": 'where, "oh where"', label_column: "card_arrival"}])
    example = read_examples(str(path), task="banking77").train[0]
    assert example.label == "card_arrival"
    assert example.messages[1].content == 'where, "oh where"'


def test_a_folder_keeps_the_splits_it_has(tmp_path):
    for name, part in (("train", ROWS[:10]), ("val", ROWS[10:13]), ("test", ROWS[13:])):
        write_csv(tmp_path / f"{name}.csv", part)
    data = read_examples(str(tmp_path), task=None)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 3, 7)
    assert [contents(e)[0] for e in data.train] == [row["prompt"] for row in ROWS[:10]]


def test_a_folder_without_validation_holds_out_some_of_train_and_none_of_test(tmp_path):
    write_csv(tmp_path / "train.csv", ROWS[:15])
    write_csv(tmp_path / "test.csv", ROWS[15:])
    data = read_examples(str(tmp_path), task=None)
    assert len(data.train) + len(data.validation) == 15
    assert data.validation
    assert {contents(e)[0] for e in data.test} == {row["prompt"] for row in ROWS[15:]}


def test_shards_of_a_split_are_read_in_order(tmp_path):
    write_jsonl(tmp_path / "train-00001-of-00002.jsonl", ROWS[10:])
    write_jsonl(tmp_path / "train-00000-of-00002.jsonl", ROWS[:10])
    write_jsonl(tmp_path / "validation.jsonl", ROWS[:1])
    train = read_examples(str(tmp_path), task=None).train
    assert [contents(e)[0] for e in train] == [row["prompt"] for row in ROWS]


def test_the_fingerprint_of_a_file_is_its_sha256(tmp_path):
    path = write_csv(tmp_path / "d.csv", ROWS)
    assert read_examples(str(path), task=None).fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_fingerprint_of_a_folder_covers_every_split(tmp_path):
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", ROWS[:2])
    before = read_examples(str(tmp_path), task=None).fingerprint
    write_csv(tmp_path / "test.csv", ROWS[:3])
    assert read_examples(str(tmp_path), task=None).fingerprint != before


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt,response\r\nq,a\r\n\r\n")
    assert contents(read_examples(str(path), task=None).train[0]) == ("q", "a")


@pytest.mark.parametrize(("name", "write"), [("d.csv", write_csv), ("d.jsonl", write_jsonl)])
def test_a_line_of_100k_words_is_read(tmp_path, name, write):
    text = "word " * 100_000 + "end"
    path = write(tmp_path / name, [{"prompt": text, "response": "a"}])
    assert contents(read_examples(str(path), task=None).train[0])[0] == text


def test_every_message_of_a_role_shares_its_word(tmp_path):
    """A word of its own for each would take 55 bytes a message."""
    (tmp_path / "d.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 2
    )
    one, other = read_examples(str(tmp_path / "d.jsonl"), task=None).train[0].messages[:2]
    roles = {
        id(m.role) for e in read_examples(str(tmp_path / "d.jsonl"), task=None).train for m in e.messages
    }
    assert roles == {id(one.role), id(other.role)}


def broken(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", "", "d.csv is empty"),
        ("d.csv", "prompt,response\n", "no examples"),
        ("d.jsonl", "\n\n", "no examples"),
        ("d.csv", b"prompt,response\nq,a\nq,caf\xe9\n", "d.csv, line 3: not UTF-8"),
        ("d.csv", "prompt,response\nq,a,b\n", "line 2: 3 fields where the head names 2"),
        ("d.csv", "prompt,response\nq\n", "line 2: 1 fields where the head names 2"),
        ("d.csv", 'prompt,response\nq,"a\n', "broken CSV"),
        ("d.csv", "prompt,response\nq, \n", "line 2: response is empty"),
        ("d.jsonl", '{"prompt": "q", "response": "a"}\n{"prompt": \n', "d.jsonl, line 2: broken JSON"),
        ("d.jsonl", "[" * 100_000, "broken JSON"),
        ("d.jsonl", '"text"\n', "line 1: a JSON str, not an object"),
        ("d.json", '[{"prompt": "q", "response": "a"}, 3]', "element 2: a JSON int"),
        ("d.jsonl", '{"prompt": "q", "response": 5}\n', "response is int, not text"),
        ("d.jsonl", '{"prompt": "q", "response": null}\n', "response is missing"),
        ("d.jsonl", '{"messages": []}\n', "not a list of messages"),
        ("d.jsonl", '{"messages": ["hi"]}\n', "lacks role or content"),
        ("d.jsonl", '{"messages": [{"role": "tool", "content": "x"}]}\n', "unknown role 'tool'"),
        ("d.jsonl", '{"messages": [{"role": "user", "content": "x"}]}\n', "no message is the assistant's"),
        ("d.parquet", "not parquet", "no readable Parquet file"),
    ],
)
def test_broken_content_is_named_by_file_and_line(tmp_path, name, content, message):
    with pytest.raises(LplanError, match=message) as caught:
        read_examples(broken(tmp_path, name, content), task=None)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "content", "message", "hint"),
    [
        (None, "a,b\n1,2\n", "among 'a', 'b'", "prompt/response"),
        (None, "text,category\nhi,age_limit\n", "among 'text', 'category'", "--task banking77"),
        (
            "banking77",
            "query,category\nhi,age_limit\n",
            "among 'query', 'category'",
            "wants text and category",
        ),
    ],
)
def test_missing_columns_are_a_usage_error_that_names_those_found(tmp_path, task, content, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        read_examples(broken(tmp_path, "d.csv", content), task=task)
    assert hint in caught.value.hint


def test_an_unknown_label_names_its_line_and_the_nearest(tmp_path):
    path = broken(tmp_path, "d.csv", "text,category\nhi,age_limit\nhi,card_arival\n")
    with pytest.raises(LplanError, match=r"line 3: task banking77 has no label 'card_arival'") as caught:
        read_examples(path, task="banking77")
    assert "card_arrival" in caught.value.hint


@pytest.mark.parametrize("name", ["nowhere/at/all", "missing.csv", "/nowhere.jsonl", "./nope"])
def test_a_missing_file_is_a_usage_error(name):
    with pytest.raises(UsageError, match="there is no file or folder"):
        read_examples(name, task=None)


def test_a_file_of_unknown_format_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no known format") as caught:
        read_examples(broken(tmp_path, "data.xlsx", "x"), task=None)
    assert ".csv" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no data files at all"),
        (["mine.csv"], "no train file, but mine.csv"),
        (["train.csv", "train.jsonl"], "train in several formats"),
    ],
)
def test_a_folder_without_one_clear_train_file_is_a_usage_error(tmp_path, names, message):
    for name in names:
        (write_csv if name.endswith("csv") else write_jsonl)(tmp_path / name, ROWS)
    with pytest.raises(UsageError, match=message):
        read_examples(str(tmp_path), task=None)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "d.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LplanError, match="pyarrow") as caught:
        read_examples(str(path), task=None)
    assert "lplan[parquet]" in caught.value.hint


def test_a_hub_name_without_datasets_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="no file or folder owner/name") as caught:
        read_examples("owner/name", task=None)
    assert "lplan[hub-data]" in caught.value.hint


class FakeSplit(list):
    """What `datasets` gives, as far as it is used: rows, and features of which some have names."""

    def __init__(self, rows, names):
        super().__init__(rows)
        self.features = {"text": object(), "label": type("ClassLabel", (), {"names": names})()}


class FakeDatasets:
    def __init__(self, splits):
        self.splits = splits

    def load_dataset(self, name, configuration):
        if self.splits is None:
            raise ConnectionError("Couldn't reach the hub\nfor many reasons")
        assert (name, configuration) == ("owner/name", "main")
        return self.splits


def test_a_hub_data_set_is_read_by_split_with_its_class_names(monkeypatch):
    names = ["card_arrival", "age_limit"]
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(30)]
    splits = {
        "train": FakeSplit(rows, names),
        "test": FakeSplit(rows[:4], names),
        "extra": FakeSplit([], names),
    }
    monkeypatch.setitem(sys.modules, "datasets", FakeDatasets(splits))
    data = read_examples("owner/name:main", task="banking77")
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 4)
    assert [e.label for e in data.test] == ["card_arrival", "age_limit"] * 2
    assert data.format == "hub"


def test_a_hub_that_does_not_answer_is_one_line_and_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", FakeDatasets(None))
    with pytest.raises(LplanError, match=r"Couldn't reach the hub$") as caught:
        read_examples("owner/name:main", task=None)
    assert "connection" in caught.value.hint
