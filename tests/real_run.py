"""The real worker under the real supervisor (benchmarks/tiny_run.py)."""

from lplan.benchmarks.tiny_run import GIB, Run, kill_when, train

__all__ = ["GIB", "Run", "kill_when", "train"]
