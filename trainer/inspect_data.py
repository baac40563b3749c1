"""What `lplan data` answers: a data set as one model sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..planner.data_report import DataReport, LabelCount
from ..planner.request import context_length, require_context
from ..profiles.errors import LplanError
from ..profiles.model import ModelProfile
from .data.examples import DataSet, Example
from .data.findings import find_problems
from .data.readers import DEMO, DEMO_TASK, read_examples
from .data.repeats import find_repeats
from .data.survey import Survey, histogram, percentiles, survey
from .data.tasks import find_task
from .data.tokenizer import load_tokenizer
from .data.waste import BATCH_SIZES, padding_waste, worst_batch
from .prepare import tokenizer_of


def inspect_data(
    location: str, model: ModelProfile, *, task: str | None = None, max_length: int | None = None
) -> DataReport:
    """Read a data set and look at it; only the tokenizer's files are fetched, after the data was read.

    Raises UsageError or LplanError for data that cannot be trained on, as `prepare_data` does.
    """
    require_context(model, max_length)
    data = read_examples(location, task=task)
    tokenizer = load_tokenizer(tokenizer_of(model), trust_remote_code=model.trust_remote_code)
    length = max_length or context_length(model.config)
    seen = survey(data.train, tokenizer, length)
    if not seen.lengths.total:
        hint = f"the sequence length {length} leaves no room for the answers; allow more"
        raise LplanError("no token carries loss: every label is masked", hint=hint)
    return _report(data, seen, model, find_task(task or (DEMO_TASK if location == DEMO else None)).name)


def _report(data: DataSet, seen: Survey, model: ModelProfile, task: str) -> DataReport:
    others = {"validation": data.validation, "test": data.test}
    splits = {"train": len(data.train), **{name: len(split) for name, split in others.items()}}
    labels = _labels(data)
    known = find_task(task).labels if labels else ()
    trained = {label.label for label in labels if label.train}
    sizes = [size for size in BATCH_SIZES if size <= len(seen.lengths.total)]
    return DataReport(
        location=data.location,
        format=data.format,
        task=task,
        model=model.id,
        splits=splits,
        template="the model's own chat template" if seen.own_template else "the format of Llama 2",
        percentiles=percentiles(seen.lengths.total),
        answer_percentiles=percentiles(seen.lengths.supervised),
        tokens=sum(seen.lengths.total),
        supervised_tokens=sum(seen.lengths.supervised),
        histogram=histogram(seen.lengths.total),
        cuts=seen.cuts,
        worst_batches=tuple(worst_batch(seen.lengths, size) for size in sizes),
        padding=tuple(padding_waste(seen.lengths, size) for size in sizes),
        labels=labels,
        findings=tuple(
            find_problems(
                len(data.train),
                seen,
                find_repeats(data.train, others),
                labels,
                [label for label in known if label not in trained],
                splits,
            )
        ),
    )


def _labels(data: DataSet) -> tuple[LabelCount, ...]:
    train, held_out = _counted(data.train), _counted((*data.validation, *data.test))
    names = sorted({*train, *held_out}, key=lambda label: (-train[label], label))
    return tuple(LabelCount(label=name, train=train[name], held_out=held_out[name]) for name in names)


def _counted(examples: Sequence[Example]) -> Counter[str]:
    return Counter(example.label for example in examples if example.label is not None)
