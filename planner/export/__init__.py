"""Plans written as other programs' scripts and configurations: text only, no framework."""
