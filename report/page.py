"""A finished run as one HTML page: complete without a script and without a network. Everything is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..planner.estimate import REHEARSAL, REHEARSED, RESUME
from ..planner.evaluation import evaluation_of
from ..profiles.errors import LplanError
from ..profiles.units import format_size, gib
from .charts import curve_chart, memory_chart, used_of
from .page_assets import SCRIPT, STYLE
from .run import error_of
from .wording import clock, duration, enforcement, rate, share

_NUMBER = {"predicted", "range", "measured", "error", "anonymous", "file-backed", "steps", "of them again"}
_KEY = (
    '<p class="key"><span><i style="background:var(--anonymous)"></i>anonymous</span>'
    '<span><i style="background:var(--file)"></i>file-backed</span>'
    '<span><i style="background:var(--plan)"></i>planned peak</span>'
    '<span><i style="background:var(--limit)"></i>limit</span></p>'
    '<p id="at" class="small muted"></p>'
)


def page(document: Mapping[str, Any]) -> str:
    """The page of `planner.record.record_document`."""
    title = _title(document)
    data = json.dumps(document).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = "".join(_sections(document))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'{body}</main><script type="application/json" id="data">{data}</script>'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def headline(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures of a first look: (name, value)."""
    estimate, start = _estimate(document), document["start"]
    if document["measured"]:
        yield "GiB at most, measured", gib(max(used_of(peak) for peak in document["measured"]))
    if estimate:
        highest = max(phase["peak"]["expected_bytes"] for phase in estimate["phases"])
        yield "GiB at most, predicted", gib(highest)
    if start:
        yield "GiB limit", gib(start["budget_bytes"])
    seconds = sum(metric["step_s"] for metric in document["metrics"])
    if seconds:
        yield "tokens a second", rate(sum(metric["tokens"] for metric in document["metrics"]) / seconds)
    losses = [metric["loss"] for metric in document["metrics"] if metric["loss"] is not None]
    if losses:
        yield f"loss at last, {losses[0]:.3f} at first", f"{losses[-1]:.3f}"
    if document["evaluations"]:
        yield "held-out loss", f"{document['evaluations'][-1]['loss']:.3f}"


def phase_rows(document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Predicted beside measured, phase by phase, in GiB."""
    estimate = _estimate(document)
    measured = {peak["name"]: peak for peak in document["measured"]}
    planned = {phase["name"]: phase["peak"] for phase in estimate["phases"]} if estimate else {}
    if REHEARSAL in measured and planned:
        planned = _with_rehearsal(planned)
    if RESUME in measured and estimate:
        resuming = {phase["name"]: phase["peak"] for phase in estimate.get("other_phases", ())}
        planned = _before_the_steps(
            planned, {name: peak for name, peak in resuming.items() if name == RESUME}
        )
    for name in dict.fromkeys((*planned, *measured)):
        peak, plan = measured.get(name), planned.get(name)
        both = peak is not None and plan is not None
        yield {
            "phase": name,
            "predicted": gib(plan["expected_bytes"]) if plan else "–",
            "range": f"{gib(plan['low_bytes'])}–{gib(plan['high_bytes'])}" if plan else "–",
            "measured": gib(used_of(peak)) if peak else "–",
            "error": error_of(plan["expected_bytes"], used_of(peak)) if both and plan and peak else "",
            "anonymous": gib(peak["anonymous_bytes"]) if peak else "",
            "file-backed": gib(peak["file_bytes"]) if peak else "",
        }


def _with_rehearsal(planned: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """As planner.estimate.with_rehearsal does it."""
    highest = max(
        (planned[name] for name in REHEARSED if name in planned), key=lambda peak: peak["expected_bytes"]
    )
    return _before_the_steps(planned, {REHEARSAL: highest})


def _before_the_steps(
    planned: Mapping[str, Mapping[str, Any]], more: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    place = next((i for i, name in enumerate(planned) if name in REHEARSED), len(planned))
    rows = list(planned.items())
    return dict([*rows[:place], *more.items(), *rows[place:]])


def verdict(document: Mapping[str, Any]) -> tuple[str, str]:
    """How it ended, and the sentence about it."""
    outcome = document["outcome"]
    if outcome is None:
        return "no end recorded", "the run is still going, or its supervisor was killed"
    return outcome["verdict"].replace("-", " "), outcome["explanation"]


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    yield _head(document)
    chart = memory_chart(document)
    if chart:
        yield _section("Memory over time, GiB", chart + _KEY)
    yield _section(
        "Predicted against measured, GiB", _table(list(phase_rows(document))) + _components(document)
    )
    metrics = _once(document["metrics"])
    losses = [(m["step"], m["loss"]) for m in metrics if m["loss"] is not None]
    held = [(e["step"], e["loss"]) for e in document["evaluations"]]
    if curve := curve_chart("loss", "loss over steps; dots are held-out", losses, held):
        yield _section("Loss", curve + '<p class="small muted">dots: held-out loss</p>')
    speeds = [(m["step"], m["tokens"] / m["step_s"]) for m in metrics if m["step_s"] > 0]
    if curve := curve_chart("speed", "tokens a second over steps", speeds):
        yield _section("Tokens a second", curve)
    plan = document["plan"]
    if plan and plan["decisions"]:
        rows = [_decision(decision) for decision in plan["decisions"]]
        yield _section("Decisions", _table(rows, stacks=True))
    if document["evaluation"]:
        yield _section("Evaluation", _evaluation(document["evaluation"]))
    if document["answers"]:
        rows = [_answer(answer) for answer in document["answers"]]
        yield _section("Answers, epoch by epoch", _table(rows, stacks=True))
    if len(document["attempts"]) > 1:
        yield _section("Attempts, GiB", _table(list(attempt_rows(document)), stacks=True))
    if document["notes"]:
        rows = [{"at": clock(note["t_s"]), "what happened": note["text"]} for note in document["notes"]]
        yield _section("History", _table(rows))
    if plan:
        yield _section("Machine and versions", _table(list(_machine(plan["estimate"]))))


def _head(document: Mapping[str, Any]) -> str:
    word, sentence = verdict(document)
    outcome, start = document["outcome"], document["start"]
    style = "good" if word == "done" else "bad"
    hint = f"<p>hint: {escape(outcome['hint'])}</p>" if outcome and outcome["hint"] else ""
    when = f"{start['time']}, {enforcement(start['limiter'])}" if start else ""
    took = f", {duration(outcome['t_s'])}" if outcome else ""
    figures = "".join(
        f'<div class="figure"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in headline(document)
    )
    return (
        f'<h1>{escape(_title(document))}</h1><p class="muted small">{escape(when + took)}</p>'
        f'<section><span class="verdict {style}">{escape(word)}</span> {escape(sentence)}{hint}'
        f'<div class="figures">{figures}</div></section>'
    )


def _components(document: Mapping[str, Any]) -> str:
    estimate = _estimate(document)
    if not estimate:
        return ""
    highest = max(estimate["phases"], key=lambda phase: phase["peak"]["expected_bytes"])
    rows = [
        {"component": name, "predicted": format_size(size)}
        for name, size in sorted(highest["components"].items(), key=lambda item: -item[1])
    ]
    title = f"what the {highest['name']} is made of, as predicted"
    return f"<details><summary>{escape(title)}</summary>{_table(rows)}</details>"


def _decision(decision: Mapping[str, Any]) -> dict[str, str]:
    against = "; ".join(f"{r['value']}: {r['reason']}" for r in decision["rejected"])
    return {
        "knob": decision["knob"],
        "value": decision["value"],
        "reason": decision["reason"] + (f" (over {against})" if against else ""),
    }


def _machine(estimate: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    hardware = estimate["hardware"]
    yield {"what": "machine", "which": f"{hardware['name']}, {hardware['cores']} cores"}
    yield {"what": "memory", "which": format_size(hardware["memory_bytes"])}
    yield {"what": "budget", "which": hardware["reason"]}
    for name, version in estimate["versions"].items():
        yield {"what": name, "which": str(version)}


def _answer(answer: Mapping[str, Any]) -> dict[str, str]:
    return {
        "step": str(answer["step"]),
        "asked": answer["request"],
        "wanted": answer["wanted"],
        "answer": answer["text"],
    }


def _once(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A metric a step, in order: of a step that was trained again after a recovery, the one that counts."""
    return [metric for _, metric in sorted({metric["step"]: metric for metric in metrics}.items())]


def attempt_rows(document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A start of the worker a row: what was planned and used, which steps it trained, how it ended."""
    for attempt in document["attempts"]:
        first, last, peak = attempt["first_step"], attempt["last_step"], attempt["measured_peak_bytes"]
        yield {
            "at": clock(attempt["t_s"]),
            "predicted": gib(attempt["planned_peak_bytes"]),
            "measured": "–" if peak is None else gib(peak),
            "steps": "none" if first is None else f"{first} to {last}",
            "of them again": str(attempt["repeated"] or ""),
            "how it ended": attempt["ended"] or "nobody told",
        }


def evaluation_rows(evaluation: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What was asked before and after training, with the 95 % intervals of shares. Raises LplanError if damaged."""
    evaluated = evaluation_of(evaluation)
    if evaluated.loss is not None:
        loss = evaluated.loss
        before = "–" if loss.before is None else f"{loss.before:.3f}"
        yield _asked("held-out loss", loss.samples, before, f"{loss.after:.3f}")
    for name, score in (
        (f"scored, of {evaluated.labels}", evaluated.scored),
        ("generated", evaluated.generated),
        ("general knowledge", evaluated.knowledge),
    ):
        if score is not None:
            before = "–" if score.before is None else share(score.before)
            yield _asked(name, score.after.of, before, share(score.after))


def _asked(name: str, of: int, before: str, after: str) -> dict[str, str]:
    return {"what": name, "asked": f"{of:,}", "before": before, "after": after}


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    try:
        rows = list(evaluation_rows(evaluation))
    except LplanError as error:
        return f'<p class="muted">{escape(str(error))}</p>'
    told = evaluation_of(evaluation).samples
    answers = [
        {"asked": one.request, "wanted": one.wanted, "before": one.before or "–", "after": one.after}
        for one in told
    ]
    key = '<p class="muted small">in brackets: 95 % intervals</p>'
    return _table(rows) + key + (f"<h3>Sample answers</h3>{_table(answers, stacks=True)}" if answers else "")


def _table(rows: Sequence[Mapping[str, str]], *, stacks: bool = False) -> str:
    """Rows under their heads; one that `stacks` sets its cells under each other on a phone."""
    if not rows:
        return '<p class="muted">nothing was recorded</p>'
    heads = "".join(f'<th scope="col"{_align(head)}>{escape(head)}</th>' for head in rows[0])
    body = "".join(
        "<tr>" + "".join(_cell(head, text, named=stacks) for head, text in row.items()) + "</tr>"
        for row in rows
    )
    kind = ' class="stack"' if stacks else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(head: str, text: str, *, named: bool) -> str:
    name = f' data-head="{escape(head, quote=True)}"' if named else ""
    return f"<td{_align(head)}{name}>{escape(text)}</td>"


def _align(head: str) -> str:
    return ' class="n"' if head in _NUMBER else ""


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _title(document: Mapping[str, Any]) -> str:
    start = document["start"]
    return f"{start['model']} → {document['run']}" if start else str(document["run"])


def _estimate(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    plan: Mapping[str, Any] | None = document["plan"]
    return plan["estimate"] if plan else None


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
