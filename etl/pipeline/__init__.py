"""The DAG of processors as a definition: build it, check it, draw it. Runs nothing."""

from etl.pipeline.load import load_pipeline
from etl.pipeline.pipeline import Pipeline

__all__ = ["Pipeline", "load_pipeline"]
