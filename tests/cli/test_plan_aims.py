"""What a plan is to be best at, what may be changed for it, and what other budgets would buy: by their flags."""

import pytest

GIB = 2**30


def test_more_memory_less_memory_and_the_frontier(lplan, model, data):
    words = ("plan", "--model", model, "--data", data, "--ram", "2G")
    document = lplan(
        *words, "--pareto", "--what-if", "+1G", "--what-if=-512M", "--price", "3", "--json"
    ).document
    assert [other["difference_bytes"] for other in document["what_if"]] == [GIB, -GIB // 2]
    assert document["what_if"][0]["budget_bytes"] == 3 * GIB
    needs = [point["required_bytes"] for point in document["pareto"]]
    assert needs == sorted(needs, reverse=True)
    assert document["cost"]["total"] == pytest.approx(document["time"]["total_s"] / 3600 * 3)
    shown = lplan(*words, "--pareto", "--what-if", "+1G", "--price", "3").out
    for text in ("memory against time", "1.00 GiB more:", "; costs "):
        assert text in shown


def test_safety_leaves_less(lplan, model):
    words = ("plan", "--model", model, "--ram", "2G", "--json")
    assert lplan(*words, "--safety", "25%").document["estimate"]["hardware"]["budget_bytes"] == 1.5 * GIB
    assert lplan(*words, "--safety", "0.25").document["estimate"]["hardware"]["budget_bytes"] == 1.5 * GIB
    assert lplan(*words, "--safety", "1G").document["estimate"]["hardware"]["budget_bytes"] == GIB


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--keep", "everything"), "everything"),
        (("--allow", "speed"), "speed"),
        (("--keep", "rank", "--allow", "rank"), "exclude"),
        (("--safety", "120%"), "120%"),
        (("--safety", "much"), "much"),
        (("--what-if", "more"), "more"),
        (("--objective", "best"), "best"),
    ],
)
def test_what_means_nothing_is_refused(lplan, model, words, named):
    message, _ = lplan("plan", "--model", model, "--ram", "2G", *words).refused(2)
    assert named in message


def test_the_objective_is_among_the_decisions(lplan, model):
    document = lplan(
        "plan", "--model", model, "--ram", "2G", "--objective", "least-memory", "--json"
    ).document
    (aim,) = [decision for decision in document["decisions"] if decision["knob"] == "objective"]
    assert aim["value"] == "least-memory"
