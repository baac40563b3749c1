"""Traces the real training step without data: the only planner room that knows torch."""
