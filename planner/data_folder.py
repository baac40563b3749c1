"""Where lplan keeps what it has learned on this machine."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "LPLAN_DATA"


def data_folder() -> Path:
    """What lplan has learned on this machine: $LPLAN_DATA, else the platform's data folder for lplan."""
    if named := os.environ.get(DATA_VARIABLE):
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("lplan")
