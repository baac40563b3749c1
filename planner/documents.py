"""Estimates and plans as versioned JSON documents, out and in. Others script against these: extend, don't break."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..profiles.errors import LplanError, UsageError
from ..profiles.hardware import Budget, Gpu, Hardware, Limit
from ..profiles.model import ModelProfile, WeightFiles
from ..profiles.typed import require_types
from .chance import chance_to_fit
from .estimate import ByteRange, CudaBytes, Estimate, HostBytes, PhaseEstimate
from .events import Outcome, PhasePeak
from .plan import Advice, DataReference, Decision, Plan, Rejected, Schedule, TimeEstimate
from .recipe import Recipe
from .texts import Texts

ESTIMATE_SCHEMA = "lplan.estimate/1"
PLAN_SCHEMA = "lplan.plan/1"


def estimate_document(estimate: Estimate) -> dict[str, Any]:
    """`lplan estimate --json`."""
    peak = estimate.peak
    return {
        "schema": ESTIMATE_SCHEMA,
        "model": {
            "id": estimate.model.id,
            "architecture": estimate.architecture,
            "parameters": estimate.parameters,
            "trainable_parameters": estimate.trainable_parameters,
        },
        "recipe": estimate.recipe.to_dict(),
        "hardware": {
            "name": estimate.hardware.name,
            "device": estimate.budget.device,
            "budget_bytes": estimate.budget.budget_bytes,
            "reserve_bytes": estimate.budget.reserve_bytes,
            "reason": estimate.budget.reason,
            "memory_bytes": estimate.hardware.memory_bytes,
            "cores": estimate.hardware.cores,
            "source": estimate.hardware.source,
        },
        "phases": [_phase_document(phase) for phase in estimate.phases],
        "other_phases": [
            {**_phase_document(phase), "fits": estimate.holds(phase)} for phase in estimate.other_phases
        ],
        "peak": {"phase": peak.name, **asdict(peak.peak)},
        "cuda": _cuda_document(estimate),
        "host": _host_document(estimate),
        "cpu": None if estimate.recipe.device == "cuda" else _cpu_document(estimate),
        "required_bytes": peak.required_bytes,
        "fits": estimate.fits,
        "chance": chance_to_fit(estimate),
        "texts": None if estimate.texts is None else asdict(estimate.texts),
        "assumptions": list(estimate.assumptions),
        "not_modelled": list(estimate.not_modelled),
        "calibration": dict(estimate.offsets),
        "versions": dict(estimate.versions),
    }


def _cuda_document(estimate: Estimate) -> dict[str, int] | None:
    found = [asdict(phase.cuda) for phase in estimate.phases if phase.cuda is not None]
    return {name: max(phase[name] for phase in found) for name in found[0]} if found else None


def _host_document(estimate: Estimate) -> dict[str, Any] | None:
    peak, found = (
        estimate.host_peak,
        [asdict(phase.host) for phase in estimate.phases if phase.host is not None],
    )
    if peak is None or peak.host is None:
        return None
    return {
        **{name: max(phase[name] for phase in found) for name in found[0]},
        "phase": peak.name,
        "required_bytes": peak.host.required_bytes,
        "room_bytes": estimate.host_room_bytes,
        "fits": peak.host.required_bytes <= estimate.host_room_bytes,
    }


def _cpu_document(estimate: Estimate) -> dict[str, int]:
    return {
        "rss_bytes": max(phase.peak.expected_bytes for phase in estimate.phases),
        "anonymous_bytes": max(phase.anonymous_bytes for phase in estimate.phases),
        "file_bytes": max(phase.file_bytes for phase in estimate.phases),
    }


def _phase_document(phase: PhaseEstimate) -> dict[str, Any]:
    return {
        "name": phase.name,
        "peak": asdict(phase.peak),
        "components": dict(phase.components),
        "anonymous_bytes": phase.anonymous_bytes,
        "file_bytes": phase.file_bytes,
        "reclaimable_bytes": phase.reclaimable_bytes,
        "cuda": None if phase.cuda is None else asdict(phase.cuda),
        "host": None if phase.host is None else asdict(phase.host),
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """`lplan plan --json`, and the content of a plan file. `replay` is what a plan is checked against."""
    model = plan.estimate.model
    document = {
        "schema": PLAN_SCHEMA,
        "estimate": estimate_document(plan.estimate),
        "recipe": plan.recipe.to_dict(),
        "decisions": [_decision_document(decision) for decision in plan.decisions],
        "time": None if plan.time is None else asdict(plan.time),
        "schedule": asdict(plan.schedule),
        "data": None if plan.data is None else asdict(plan.data),
        "guidance": [asdict(advice) for advice in plan.guidance],
        "replay": {
            "model": _model_document(model),
            "model_fingerprint": model_fingerprint(model),
            "hardware": asdict(plan.estimate.hardware),
            "budget": asdict(plan.estimate.budget),
            "versions": dict(plan.estimate.versions),
        },
    }
    return {**document, "digest": _digest(document)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _decision_document(decision: Decision) -> dict[str, Any]:
    return {**asdict(decision), "rejected": [asdict(rejected) for rejected in decision.rejected]}


def _model_document(model: ModelProfile) -> dict[str, Any]:
    location = model.location
    return {
        **{
            name: getattr(model, name)
            for name in ("id", "alias", "model_type", "architecture", "parameters", "source")
        },
        "checked": model.checked,
        "trust_remote_code": model.trust_remote_code,
        "config": dict(model.config),
        "weights": asdict(model.weights),
        "location": str(location) if location is not None else None,
        "local": isinstance(location, Path),
    }


def model_fingerprint(model: ModelProfile) -> str:
    """SHA-256 over the configuration and the sizes of the weight files."""
    return _digest([dict(model.config), asdict(model.weights)])


def require_plan_place(path: Path) -> None:
    """Raises UsageError where no plan can be written, or where something else than a plan would be overwritten."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a plan file", hint=f"say --output {path / 'plan.json'}")
    if path.exists() and not _looks_like_plan(path):
        raise UsageError(f"{path} exists and is no plan: it is not overwritten", hint=_OTHER_PLACE)
    aside = _aside(path)
    try:
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=_OTHER_PLACE) from error


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan file, atomically. Raises LplanError when the place cannot be written."""
    aside = _aside(path)
    try:
        aside.write_text(json.dumps(plan_document(plan), indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise LplanError(f"cannot write {path}: {error.strerror}", hint=_OTHER_PLACE) from error


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _looks_like_plan(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return PLAN_SCHEMA in file.read(200)
    except (OSError, ValueError):
        return False


def read_plan(path: Path) -> Plan:
    """The plan of a plan file.

    Raises UsageError when there is none, LplanError when it is damaged or of another schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="`lplan plan --output` writes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise LplanError(f"{path} is not a plan file: {error}", hint=_MAKE_ANEW) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != PLAN_SCHEMA:
        raise LplanError(f"{path} is not a plan file: its schema is {schema!r}", hint=_MAKE_ANEW)
    if data.pop("digest", None) != _digest(data):
        raise LplanError(f"{path} is damaged, or was changed after it was written", hint=_MAKE_ANEW)
    try:
        plan = _plan(data)
        require_types(plan)
        _require_parts(plan.estimate)
    except (KeyError, TypeError, AttributeError, ValueError, UsageError) as error:
        raise LplanError(f"{path} is damaged: {type(error).__name__}: {error}", hint=_MAKE_ANEW) from error
    return plan


def _require_parts(estimate: Estimate) -> None:
    """Raises ValueError for an estimate without what every estimate has."""
    if not estimate.phases:
        raise ValueError("it has no phases")
    if estimate.recipe.device == "cuda" and not estimate.hardware.gpus:
        raise ValueError("it is for a GPU and its machine has none")


_MAKE_ANEW = "make it anew with `lplan plan --output`"
_OTHER_PLACE = "name another file by --output"


def _plan(data: Mapping[str, Any]) -> Plan:
    recipe = Recipe.from_dict(data["recipe"])
    time, reference = data["time"], data["data"]
    return Plan(
        recipe=recipe,
        schedule=Schedule(**data["schedule"]),
        estimate=_estimate(data["estimate"], data["replay"], recipe),
        decisions=tuple(
            Decision(**{**d, "rejected": tuple(Rejected(**r) for r in d["rejected"])})
            for d in data["decisions"]
        ),
        time=None if time is None else TimeEstimate(**time),
        data=None if reference is None else DataReference(**reference),
        guidance=tuple(Advice(**advice) for advice in data.get("guidance", ())),
    )


def _phase(data: Mapping[str, Any]) -> PhaseEstimate:
    cuda, host = data.get("cuda"), data.get("host")
    return PhaseEstimate(
        **{
            **data,
            "peak": ByteRange(**data["peak"]),
            "cuda": None if cuda is None else CudaBytes(**cuda),
            "host": None if host is None else HostBytes(**host),
        }
    )


def _estimate(data: Mapping[str, Any], replay: Mapping[str, Any], recipe: Recipe) -> Estimate:
    return Estimate(
        model=_model(replay["model"]),
        architecture=data["model"]["architecture"],
        parameters=data["model"]["parameters"],
        trainable_parameters=data["model"]["trainable_parameters"],
        recipe=recipe,
        hardware=_hardware(replay["hardware"]),
        budget=_budget(replay["budget"]),
        phases=tuple(_phase(phase) for phase in data["phases"]),
        other_phases=tuple(
            _phase({name: value for name, value in phase.items() if name != "fits"})
            for phase in data.get("other_phases", ())
        ),
        texts=Texts(**texts) if (texts := data.get("texts")) else None,
        assumptions=tuple(data["assumptions"]),
        not_modelled=tuple(data["not_modelled"]),
        offsets=dict(data.get("calibration", {})),
        versions=data["versions"],
    )


def _model(data: Mapping[str, Any]) -> ModelProfile:
    weights = {**data["weights"], "shard_bytes": tuple(data["weights"]["shard_bytes"])}
    location = Path(data["location"]) if data["local"] else data["location"]
    known = {name: value for name, value in data.items() if name != "local"}
    return ModelProfile(**{**known, "weights": WeightFiles(**weights), "location": location})


def _hardware(data: Mapping[str, Any]) -> Hardware:
    gpus = tuple(Gpu(**{**gpu, "capability": tuple(gpu["capability"])}) for gpu in data["gpus"])
    return Hardware(**{**data, "gpus": gpus, "cpu_features": tuple(data["cpu_features"])})


def _budget(data: Mapping[str, Any]) -> Budget:
    return Budget(**{**data, "limits": tuple(Limit(**limit) for limit in data["limits"])})


def changes_since(
    plan: Plan, model: ModelProfile, data_fingerprint: str | None, versions: Mapping[str, str]
) -> list[str]:
    """What has changed since a plan was made: model, data or versions; empty when nothing has."""
    changed = []
    if not _is_same_model(plan.estimate.model, model):
        changed.append(f"the model {plan.estimate.model.id}")
    if plan.data is not None and data_fingerprint is not None and plan.data.fingerprint != data_fingerprint:
        changed.append(f"the data {plan.data.location}")
    for name, version in plan.estimate.versions.items():
        if versions.get(name) != version:
            changed.append(f"{name} ({version} then, {versions.get(name)} now)")
    return changed


_BESIDE_THE_GRAPH = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")


def _is_same_model(planned: ModelProfile, found: ModelProfile) -> bool:
    """Whether the files are those of the plan; where it was made before they were fetched, whether they agree."""
    if isinstance(planned.location, Path):
        return model_fingerprint(planned) == model_fingerprint(found)
    known = {name: value for name, value in planned.config.items() if name not in _BESIDE_THE_GRAPH}
    agrees = all(found.config.get(name) == value for name, value in known.items())
    return agrees and planned.weights.dtype == found.weights.dtype


RUN_SCHEMA = "lplan.run/1"


def run_document(plan: Plan, peaks: Sequence[PhasePeak], outcome: Outcome, folder: Path) -> dict[str, Any]:
    """`lplan fit-and-train --json`: the plan, what every phase reached, and how the run ended."""
    return {
        "schema": RUN_SCHEMA,
        "plan": plan_document(plan),
        "measured": [asdict(peak) for peak in peaks],
        "outcome": asdict(outcome),
        "folder": str(folder),
    }
