"""What stores and outputs say: metrics, traces, comparison, lineage, templates, figures."""
