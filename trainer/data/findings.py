"""What may be wrong with a data set, each with the reason why it matters: the checks before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...planner.data_report import Finding, LabelCount
from .repeats import Repeats
from .survey import Survey

ENOUGH_PER_LABEL = 50
"""Examples per intent, at least: the founding document's rule."""
_LOPSIDED = 10
"""The most frequent label against the rarest."""
_NAMED = 3


def find_problems(
    samples: int,
    survey: Survey,
    repeats: Repeats,
    labels: Sequence[LabelCount],
    absent: Sequence[str],
    splits: Mapping[str, int],
) -> Iterator[Finding]:
    """Findings in the order of what they cost. `absent` are labels of the task that train lacks."""
    yield from _template(samples, survey)
    yield from _leaks(repeats, splits)
    yield from _repeats(samples, repeats)
    yield from _labels(labels, absent)


def _template(samples: int, survey: Survey) -> Iterator[Finding]:
    lengths = survey.lengths
    if survey.masked:
        yield Finding(
            check="all-masked", count=survey.masked, text=f"samples without loss: {survey.masked:,} of {samples:,}",
            reason="every label is masked once they are cut: they are left out, and teach nothing",
        )  # fmt: skip
    if lengths.truncated:
        yield Finding(
            check="truncated", count=lengths.truncated,
            text=f"samples that are cut: {lengths.truncated:,} of {samples:,}",
            reason="they are too long; requests lose their beginning first, then answers their end",
        )  # fmt: skip
    if survey.ends_untrained:
        yield Finding(
            check="end-token", count=survey.ends_untrained,
            text=f"samples with an answer that has no trained end token: {survey.ends_untrained:,}",
            reason="the model does not learn when to stop, and talks on",
        )  # fmt: skip
    if survey.answers_missing:
        yield Finding(
            check="response-mask", count=survey.answers_missing,
            text=f"answers that are not in the rendered text: {survey.answers_missing:,}",
            reason="the chat template leaves out or rewrites past turns: they carry no loss",
        )  # fmt: skip
    if not survey.own_template:
        yield Finding(
            check="chat-template", count=samples, text="the model has no chat template of its own",
            reason="the instruction format of Llama 2 is taken: use the same one when you serve it",
        )  # fmt: skip
    elif survey.merges_system:
        yield Finding(
            check="system-message", count=samples, text="the chat template takes no system message",
            reason="it is put in front of the first request instead",
        )  # fmt: skip


def _leaks(repeats: Repeats, splits: Mapping[str, int]) -> Iterator[Finding]:
    for split, leaked in repeats.leaked.items():
        if leaked:
            yield Finding(
                check="leakage", count=leaked,
            text=f"requests of {split} that are in train as well: {leaked:,} of {splits[split]:,}",
                reason=f"the model has seen their answers: scores on {split} are too good",
            )  # fmt: skip


def _repeats(samples: int, repeats: Repeats) -> Iterator[Finding]:
    if repeats.exact:
        yield Finding(
            check="duplicates", count=repeats.exact,
            text=f"samples that repeat another one: {repeats.exact:,} of {samples:,}",
            reason="they are learned several times an epoch, and take time",
        )  # fmt: skip
    if repeats.normalised:
        yield Finding(
            check="near-duplicates", count=repeats.normalised,
            text=f"samples that differ from another one by case, punctuation or spaces only: {repeats.normalised:,}",
            reason="they add time, and no variety",
        )  # fmt: skip
    if repeats.contradicting:
        yield Finding(
            check="contradictions", count=repeats.contradicting,
            text=f"requests that have more than one answer: {repeats.contradicting:,}",
            reason="which one is right is left to chance; for labels that is an error in the data",
        )  # fmt: skip


def _labels(labels: Sequence[LabelCount], absent: Sequence[str]) -> Iterator[Finding]:
    trained = [label for label in labels if label.train]
    unseen = [label.label for label in labels if not label.train]
    few = [label for label in reversed(trained) if label.train < ENOUGH_PER_LABEL]
    if few:
        yield Finding(
            check="few-per-label", count=len(few),
            text=f"labels with fewer than {ENOUGH_PER_LABEL} examples to train on: {len(few)} of {len(trained)}: "
            + _named([f"{label.label} ({label.train})" for label in few]),
            reason="rare intents are learned badly: collect more, or merge them",
        )  # fmt: skip
    if trained and trained[0].train > _LOPSIDED * trained[-1].train:
        yield Finding(
            check="imbalance", count=trained[0].train,
            text=f"{trained[0].label} has {trained[0].train:,} examples, {trained[-1].label} {trained[-1].train:,}",
            reason="the frequent answer is given too often: balance them, or judge by label",
        )  # fmt: skip
    if missing := [*unseen, *(label for label in absent if label not in unseen)]:
        yield Finding(
            check="label-coverage", count=len(missing),
            text=f"labels without an example in train: {len(missing)}: {_named(missing)}",
            reason="the model is not taught to answer them",
        )  # fmt: skip


def _named(names: Sequence[str]) -> str:
    more = f", … {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
