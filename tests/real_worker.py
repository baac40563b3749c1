"""The real worker on a tiny model made in memory (benchmarks/tiny_run.py)."""

from lplan.benchmarks.tiny_run import RECIPE, STEPS, fill, learned, some_samples, work, write_job

__all__ = ["RECIPE", "STEPS", "fill", "learned", "some_samples", "work", "write_job"]
