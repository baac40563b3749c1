"""Draws nouns: tables, the live view, pages. No arithmetic but percentages."""
