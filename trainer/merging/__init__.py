"""Adapters into their bases: block by block into the files, or by PEFT where the formula is not ours; then checked."""
