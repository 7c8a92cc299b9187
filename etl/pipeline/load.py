"""Import a pipeline that a user names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from etl.errors import UsageError, did_you_mean
from etl.pipeline.pipeline import Pipeline

__all__ = ["load_pipeline"]


def load_pipeline(target: str) -> Pipeline:
    """Return the pipeline that `module:attr` or `path/to/file.py:attr` names.

    `attr` is a `Pipeline`, or a function without arguments that returns one.

    Raises:
        UsageError: If there is no such module or attribute, or it is something else.
        PipelineError: If the pipeline cannot run.
    """
    if not isinstance(target, str):
        raise UsageError(
            f"pipeline must be named, as 'module:attr' or 'path.py:attr', got {target!r}: "
            "worker processes load it by its name"
        )
    name, _, attribute = target.rpartition(":")
    if not name or not attribute:
        raise UsageError(f"pipeline {target!r} is not 'module:attr'; for example etl.demo:levels")
    try:
        module = _import(name)
        if not hasattr(module, attribute):
            names = [key for key, value in vars(module).items() if isinstance(value, Pipeline)]
            raise UsageError(
                f"module {name!r} has no {attribute!r}{did_you_mean(attribute, names)}"
            )
    except UsageError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError):
            why = f"there is no module {error.name!r}; run from its folder, or name a file"
        raise UsageError(f"pipeline {target!r} cannot be imported: {why}") from error
    found = getattr(module, attribute)
    try:
        found = found() if callable(found) else found
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"{target!r} does not return a Pipeline: {why}") from error
    if not isinstance(found, Pipeline):
        kind = type(found).__name__
        raise UsageError(f"{target!r} is a {kind}, not a Pipeline; name a Pipeline or a function")
    found.plan()
    return found


def _import(name: str) -> ModuleType:
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise UsageError(f"there is no file {name!r} to load a pipeline from")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)
