"""Launches, limits, watches and explains a run. The training stack lives here."""
