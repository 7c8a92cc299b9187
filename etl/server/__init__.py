"""HTTP over a store: take lines, show what became of them, control it.

The server holds no state of its own: it reads and controls the store that workers, notebooks
and the command line use too. FastAPI and uvicorn are loaded by `etl.server.serve`.
"""
