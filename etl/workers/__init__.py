"""Lease batches, run them, commit: one worker, threads, processes; and how they are stopped."""
