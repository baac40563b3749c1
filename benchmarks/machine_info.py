"""Where and with what a result was measured."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from lplan.planner.versions import stack_versions
from lplan.profiles.machine import this_machine

RESULTS = Path(__file__).parent / "results"


def provenance() -> dict[str, Any]:
    """Date, machine and versions."""
    hardware = this_machine()
    return {
        "date": datetime.now().date().isoformat(),
        "machine": {
            "cores": hardware.cores,
            "memory_bytes": hardware.memory_bytes,
            "cpu_features": list(hardware.cpu_features),
            "python": platform.python_version(),
            "libc": " ".join(platform.libc_ver()),
        },
        "versions": dict(stack_versions()),
    }


def store(name: str, rows: Any, **more: Any) -> Path:
    """Write benchmarks/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**provenance(), **more, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return path
