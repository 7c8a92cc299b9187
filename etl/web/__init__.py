"""Front-end files: the parts of the screens, and the dashboard of `etl serve`.

`parts.js` draws what `etl.analysis.overview` returns; `console.css` gives it its look, light and
dark. The control room in notebooks and the dashboard are both made of them. The files are served
and inlined as they are: there is no build step, and they name no other host.

The dashboard is `dashboard.html`, with the page's own layout in `dashboard.css`.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "PARTS", "STYLE"]

FOLDER = Path(__file__).parent
"""The folder of the files."""

PARTS = FOLDER / "parts.js"
"""The parts, as an ES module without imports."""

STYLE = FOLDER / "console.css"
"""Tokens and the look of the parts, all below the class `etl-console`."""
