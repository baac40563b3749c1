"""Plan files: out and in without loss, damaged ones refused in one line, changes named."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import HARDWARE, MODEL, task

from lplan.planner.documents import (
    changes_since,
    estimate_document,
    model_fingerprint,
    plan_document,
    read_plan,
    require_plan_place,
    write_plan,
)
from lplan.planner.plan import DataReference, Decision, Plan, Rejected, Schedule
from lplan.planner.planning import make_plan
from lplan.planner.recipe import Recipe
from lplan.planner.replay import require_memory, require_unchanged
from lplan.planner.versions import stack_versions
from lplan.profiles.errors import DoesNotFitError, LplanError, UsageError
from lplan.profiles.hardware import Gpu, Limit
from lplan.profiles.model import WeightFiles
from lplan.profiles.units import GIB, MIB

DATA = DataReference(location="demo", task="banking77", fingerprint="f" * 64, samples=9, longest_tokens=40)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan as the planner makes it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        made_up.install(monkeypatch, tmp_path_factory.mktemp("cache"))
        return make_plan(task(), DATA)


@pytest.fixture
def plan_file(planned, tmp_path):
    write_plan(planned, tmp_path / "plan.json")
    return tmp_path / "plan.json"


words = st.text(max_size=20)
counts = st.integers(0, 2**53)
recipes = st.builds(
    Recipe,
    method=st.sampled_from(("lora", "full")),
    rank=st.integers(1, 512),
    dropout=st.floats(0, 0.99),
    target_modules=st.lists(words.filter(bool), min_size=1, max_size=3).map(tuple),
    precision=st.sampled_from(("fp32", "bf16", "bf16-amp")),
    input_casting=st.booleans(),
    checkpointing=st.sampled_from(("none", "full", "every-3")),
    seq_len=st.integers(1, 10**6),
)
schedules = st.builds(
    Schedule,
    epochs=st.floats(0.01, 1e6),
    max_steps=st.none() | st.integers(1, 10**9),
    learning_rate=st.floats(1e-12, 1.0),
    warmup_steps=counts,
)
decisions = st.builds(
    Decision,
    knob=words,
    value=words,
    reason=words,
    rejected=st.lists(st.builds(Rejected, value=words, reason=words), max_size=2).map(tuple),
    given=st.booleans(),
)
models = st.builds(
    replace,
    st.just(MODEL),
    alias=st.none() | words,
    location=st.none() | words | st.just(Path("some/folder")),
    config=st.dictionaries(
        words, st.none() | st.booleans() | st.integers() | words | st.lists(st.integers())
    ),
    weights=st.builds(
        WeightFiles,
        format=st.sampled_from(("safetensors", "none")),
        dtype=words,
        total_bytes=counts,
        shard_bytes=st.lists(counts, max_size=3).map(tuple),
    ),
    trust_remote_code=st.booleans(),
)
gpus = st.builds(
    Gpu,
    name=words,
    memory_bytes=counts,
    free_bytes=st.none() | counts,
    capability=st.tuples(st.integers(0, 12), st.integers(0, 9)),
)
machines = st.builds(
    replace,
    st.just(HARDWARE),
    cpu_features=st.lists(words, max_size=2).map(tuple),
    gpus=st.lists(gpus, max_size=2).map(tuple),
    checked=st.none() | words,
)
references = st.builds(
    DataReference,
    location=words,
    task=st.none() | words,
    fingerprint=words,
    samples=counts,
    longest_tokens=counts,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    recipe=recipes,
    schedule=schedules,
    chosen=st.lists(decisions, max_size=3).map(tuple),
    model=models,
    hardware=machines,
    data=st.none() | references,
    timed=st.booleans(),
    limits=st.lists(st.builds(Limit, name=words, limit_bytes=counts, source=words), max_size=2).map(tuple),
)
def test_a_plan_survives_its_file(
    planned, tmp_path, recipe, schedule, chosen, model, hardware, data, timed, limits
):
    plan = Plan(
        recipe=recipe,
        schedule=schedule,
        estimate=replace(
            planned.estimate,
            recipe=recipe,
            model=model,
            hardware=hardware,
            budget=replace(planned.estimate.budget, limits=limits),
        ),
        decisions=chosen,
        time=planned.time if timed else None,
        data=data,
    )
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_the_estimate_is_the_contracts(planned):
    document = estimate_document(planned.estimate)
    assert document["schema"] == "lplan.estimate/1"
    assert document["model"].keys() == {"id", "architecture", "parameters", "trainable_parameters"}
    assert document["recipe"].keys() == Recipe().to_dict().keys()
    assert {"name", "device", "budget_bytes"} <= document["hardware"].keys()
    for phase in document["phases"]:
        assert phase["peak"].keys() == {"low_bytes", "expected_bytes", "high_bytes"}
        assert sum(phase["components"].values()) == phase["peak"]["expected_bytes"]
    assert document["peak"].keys() == {"phase", "low_bytes", "expected_bytes", "high_bytes"}
    assert document["cuda"] is None
    assert document["cpu"].keys() == {"rss_bytes", "anonymous_bytes", "file_bytes"}
    assert document["fits"] is True
    assert 0.97 < document["chance"] <= 1
    assert {"assumptions", "not_modelled", "versions"} <= document.keys()


def test_the_plan_is_the_contracts(planned):
    document = plan_document(planned)
    assert document["schema"] == "lplan.plan/1"
    assert document["estimate"] == estimate_document(planned.estimate)
    assert document["recipe"] == planned.recipe.to_dict()
    assert {"knob", "value", "reason", "rejected"} <= document["decisions"][0].keys()
    assert {"step_s", "tokens_per_s", "total_s"} <= document["time"].keys()
    written = json.loads(json.dumps(document))
    assert json.loads(json.dumps(written)) == written


def places(data, path=()):
    """The way to every value inside a JSON document, a list's first element standing for all."""
    for key, value in data.items() if isinstance(data, dict) else list(enumerate(data))[:1]:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def damaged(document, place, value):
    copy = json.loads(json.dumps(document))
    at = copy
    for key in place[:-1]:
        at = at[key]
    if value is ...:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return copy


def sealed(document):
    """With a digest that fits, as another version of lplan might have written it."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return {**rest, "digest": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


@pytest.mark.parametrize("value", [..., "text", -1], ids=repr)
def test_whatever_is_damaged_in_a_plan_file_is_noticed(plan_file, value):
    document = json.loads(plan_file.read_text())
    for place in places(document):
        plan_file.write_text(json.dumps(damaged(document, place, value)))
        with pytest.raises(LplanError, match=r"is damaged|is not a plan file") as caught:
            read_plan(plan_file)
        assert (caught.value.exit_code, bool(caught.value.hint)) == (1, True)


def test_a_plan_file_may_be_formatted_anew(plan_file, planned):
    plan_file.write_text(json.dumps(json.loads(plan_file.read_text()), sort_keys=True))
    assert read_plan(plan_file) == planned


def refusal(path):
    """How a plan file is refused; None if it is read."""
    try:
        read_plan(path)
    except LplanError as error:
        return error
    return None


@pytest.mark.parametrize("value", [..., None, "text", -1, [], {}], ids=repr)
def test_a_plan_file_of_another_shape_is_told_in_one_line(plan_file, value):
    document = json.loads(plan_file.read_text())
    refusals = []
    for place in places(document):
        plan_file.write_text(json.dumps(sealed(damaged(document, place, value))))
        refusals.append(refusal(plan_file))
    told = [error for error in refusals if error is not None]
    assert len(told) > 10
    assert all(error.exit_code == 1 and error.hint and "\n" not in str(error) for error in told)


@pytest.mark.parametrize("place", [("recipe",), ("replay", "model", "config"), ("estimate", "phases")])
def test_a_plan_file_that_lacks_what_matters_is_damaged(plan_file, place):
    document = json.loads(plan_file.read_text())
    plan_file.write_text(json.dumps(sealed(damaged(document, place, ...))))
    with pytest.raises(LplanError, match=f"is damaged: .*'{place[-1]}'"):
        read_plan(plan_file)


def test_a_knob_that_cannot_be_is_damage_too(plan_file):
    document = json.loads(plan_file.read_text())
    plan_file.write_text(json.dumps(sealed(damaged(document, ("recipe", "rank"), 0))))
    with pytest.raises(LplanError, match=r"is damaged: .*rank must be at least 1") as caught:
        read_plan(plan_file)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a plan file"),
        ("{", "is not a plan file"),
        ("[]", "its schema is None"),
        ('{"schema": "lplan.plan/2"}', "its schema is 'lplan.plan/2'"),
        ("\x00\x01", "is not a plan file"),
        ("[" * 100_000, "is not a plan file"),
    ],
)
def test_what_is_no_plan_file(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(LplanError, match=message) as caught:
        read_plan(path)
    assert (caught.value.exit_code, "lplan plan --output" in caught.value.hint) == (1, True)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LplanError, match="is not a plan file"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(UsageError, match="Is a directory"):
        read_plan(tmp_path)


def test_a_place_for_a_plan_is_tried_without_leaving_a_trace(tmp_path, planned):
    require_plan_place(tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == []
    write_plan(planned, tmp_path / "old.json")
    require_plan_place(tmp_path / "old.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [(".", "is a folder"), ("data.csv", "is no plan"), ("nowhere/plan.json", "No such file")],
)
def test_a_place_where_no_plan_can_be_written(tmp_path, name, message):
    (tmp_path / "data.csv").write_text("text,category\n")
    with pytest.raises(UsageError, match=message) as caught:
        require_plan_place(tmp_path / name)
    assert "--output" in caught.value.hint
    assert (tmp_path / "data.csv").read_text() == "text,category\n"


def test_a_failed_write_leaves_nothing_behind(tmp_path, planned, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(LplanError, match="No space left"):
        write_plan(planned, tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


VERSIONS = {"lplan": "0", "torch": "0"}
FILES = replace(MODEL, location=Path("folder"))


@pytest.mark.parametrize(
    ("model", "fingerprint", "versions", "changed"),
    [
        (FILES, "f" * 64, VERSIONS, []),
        (replace(FILES, location=Path("moved")), "f" * 64, VERSIONS, []),
        (
            replace(FILES, config={**FILES.config, "rope_theta": 1.0}),
            "f" * 64,
            VERSIONS,
            ["the model made-up"],
        ),
        (
            replace(FILES, weights=replace(FILES.weights, shard_bytes=(1, 2))),
            "f" * 64,
            VERSIONS,
            ["the model made-up"],
        ),
        (FILES, "e" * 64, VERSIONS, ["the data demo"]),
        (FILES, "f" * 64, {"lplan": "0", "torch": "1"}, ["torch (0 then, 1 now)"]),
        (FILES, "f" * 64, {"lplan": "0"}, ["torch (0 then, None now)"]),
    ],
)
def test_changes_are_named(planned, model, fingerprint, versions, changed):
    plan = replace(planned, estimate=replace(planned.estimate, model=FILES))
    assert changes_since(plan, model, fingerprint, versions) == changed


@pytest.mark.parametrize(
    ("config", "dtype", "same"),
    [
        ({**MODEL.config, "rope_theta": 1e4, "transformers_version": "5"}, "bfloat16", True),
        ({**MODEL.config, "num_hidden_layers": 5}, "bfloat16", False),
        (dict(MODEL.config), "float32", False),
    ],
)
def test_files_fetched_after_planning_must_agree_with_what_was_known(planned, config, dtype, same):
    """A plan made from the catalogue knows some of config.json and no file sizes."""
    found = replace(FILES, config=config, weights=replace(MODEL.weights, dtype=dtype, total_bytes=7))
    assert (changes_since(planned, found, None, VERSIONS) == []) == same


def test_the_fingerprint_does_not_depend_on_the_order_of_config():
    turned = replace(MODEL, config=dict(reversed(MODEL.config.items())))
    assert model_fingerprint(turned) == model_fingerprint(MODEL)


def test_a_changed_plan_is_refused_with_what_changed(planned):
    with pytest.raises(LplanError, match=r"there changed: the data demo, lplan \(0 then, .* now\)") as caught:
        require_unchanged(planned, MODEL, replace(DATA, fingerprint="0"))
    assert (caught.value.exit_code, caught.value.hint) == (1, "plan again")


def test_an_unchanged_plan_takes_the_files_that_are_here(planned):
    plan = replace(planned, estimate=replace(planned.estimate, versions=stack_versions()))
    assert require_unchanged(plan, FILES, DATA).estimate.model == FILES


def test_a_plan_is_not_run_where_the_machine_leaves_less(planned, monkeypatch):
    # 8 GiB were planned for; the need, 340 MiB of libraries and 2 x 512 tokens of 400 kB, is about 0.8 GiB.
    require_memory(planned)
    tight = (Limit(name="control group", limit_bytes=512 * MIB, source="/sys/fs/cgroup"),)
    monkeypatch.setattr("lplan.profiles.budget.memory_limits", lambda: tight)
    with pytest.raises(DoesNotFitError, match=r"but control group leaves 0\.50 GiB here"):
        require_memory(planned)


def test_a_plan_beyond_its_own_budget_is_not_run(planned):
    budget = replace(planned.estimate.budget, budget_bytes=100 * MIB)
    with pytest.raises(DoesNotFitError, match="does not fit its own budget"):
        require_memory(replace(planned, estimate=replace(planned.estimate, budget=budget)))
    require_memory(
        replace(planned, estimate=replace(planned.estimate, budget=budget)), known_to_be_tight=True
    )
    assert planned.estimate.budget.budget_bytes == 8 * GIB
