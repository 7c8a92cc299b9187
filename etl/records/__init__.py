"""What travels and what is kept: batches, results, and the columns of every table."""
