"""Other estimators, asked about the same rows, each in an environment of its own."""
