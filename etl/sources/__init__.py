"""Where lines come from, and how far each source was read.

A source yields batches, each with the checkpoint after it; one transaction puts both, so
that a killed run resumes where it was. A plain file is queued by reference (byte ranges of
it), anything else by content. Not here: what the lines mean (`formats`).
"""
