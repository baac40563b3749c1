"""The core: recipe -> footprint -> estimate -> search -> plan. Knows no framework."""
