"""HTTP over a store: store lines, show how they are processed, control the workers.

The server holds no state of its own: it reads and controls the store that workers, notebooks
and the command line use too. `etl.server.serve` loads FastAPI and uvicorn; this file does not.
"""
