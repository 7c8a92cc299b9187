"""Jupyter: the control room, batch runs as notebooks, and starting both."""
