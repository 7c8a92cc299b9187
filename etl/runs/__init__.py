"""Runs: one from sources to summary, the registry of all of them, and removing old ones."""
