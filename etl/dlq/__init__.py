"""The dead-letter queue: find, group, dry-run, replay, discard, reopen and export dead letters."""

from etl.dlq.dead_letters import DeadLetters, DryRun

__all__ = ["DeadLetters", "DryRun"]
