"""The adapter's card, as the hub's own library reads it."""

from dataclasses import replace

from huggingface_hub import ModelCard

from lplan.planner.documents import write_plan
from lplan.planner.evaluation import Evaluated, Score, Share
from lplan.trainer.model_card import write_card

from ..report.samples import PLAN


def test_the_header_is_the_hubs_and_the_tables_tell_plan_data_metrics_and_versions(tmp_path):
    odd = replace(PLAN.estimate.model, id='odd: "name" [x]')
    plan = replace(PLAN, estimate=replace(PLAN.estimate, model=odd))
    (tmp_path / "adapter").mkdir()
    write_plan(plan, tmp_path / "plan.json")
    after = Share(right=258, of=300, low=0.816, high=0.895)
    evaluated = Evaluated(
        model="x", task="t", labels=77, loss=None, scored=Score(after=after), generated=None, knowledge=None,
        max_forgetting=0.05, latency=None, samples=(), seconds=1.0,
    )  # fmt: skip
    write_card(tmp_path, evaluated)
    card = ModelCard.load(tmp_path / "adapter" / "README.md")
    assert card.data.base_model == odd.id
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-generation"
    assert "| task, 77 answers scored | 300 |  | 86.0 % (82 to 90) |" in card.text
    assert f"| rank, alpha, dropout | {plan.recipe.rank}, {plan.recipe.alpha}," in card.text
    assert plan.data is None or plan.data.fingerprint in card.text
    for name, version in plan.estimate.versions.items():
        assert f"| {name} | {version} |" in card.text
