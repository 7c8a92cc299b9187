"""Jupyter: the control room, batch runs as notebooks, and starting both."""

import sys

# With `rfc3987_syntax`, which comes with jupyter-events, jsonschema checks addresses that are not
# ASCII. No notebook has any, and its import builds a grammar: 1.5 s in every server and kernel.
# jsonschema does without a module that cannot be imported.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
