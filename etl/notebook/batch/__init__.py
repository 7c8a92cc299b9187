"""Batch runs as notebooks: processing, quality gates, reports."""
