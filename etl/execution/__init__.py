"""One batch through a pipeline: routing, bisection, the result, dry runs, taps."""
