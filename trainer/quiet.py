"""Libraries that talk while they load: silenced where their words would stand between ours."""

from __future__ import annotations

import warnings


def quiet() -> None:
    """No progress bars, and none of the libraries' warnings, for the rest of the process."""
    from transformers.utils import logging

    warnings.filterwarnings("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
