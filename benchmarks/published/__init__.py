"""Published runs as recipes, a source a file (tests/data/published.jsonl, metamathqa.jsonl)."""
