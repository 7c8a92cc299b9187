"""The notebooks and sample logs that come with etl.

In a checkout they lie beside the package, in `notebooks/` and `data/`; a wheel has them in it.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from etl.errors import UsageError
from etl.filesystem import DISK

__all__ = ["copy_notebooks", "find_notebook", "sample_folder"]


def find_notebook(name: str) -> Path:
    """Return where a notebook of etl is, which is not to be written to.

    Args:
        name: Its name without `.ipynb`, such as `02_batch_run`.

    Raises:
        UsageError: If there is none of this name.
    """
    path = _folder("notebooks") / f"{name}.ipynb"
    if not path.exists():
        raise UsageError(f"there is no {str(path)!r}; install etl again, or run a checkout of it")
    return path


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy all notebooks of etl into a folder that exists, and return the copies by name."""
    copies = []
    for notebook in sorted(_folder("notebooks").glob("*.ipynb")):
        copy = folder / notebook.name
        shutil.copyfile(notebook, DISK.make_file(copy))
        copies.append(copy)
    return copies


def sample_folder() -> Path:
    """Return the folder of the sample logs; it may not be there in a copy of the package alone."""
    return _folder("data")


def _folder(name: str) -> Path:
    """Return a folder inside of the package, or else the one beside it."""
    package = Path(str(resources.files("etl")))
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
