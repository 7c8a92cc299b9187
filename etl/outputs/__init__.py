"""The files that a store's batches have left, as data sets: read, and joined."""
