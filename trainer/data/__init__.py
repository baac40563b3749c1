"""Data sets in, labelled token sequences out."""
