"""Facts, and the finding of facts: models, hardware, tasks, this machine's limits."""
