"""A function in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["in_background"]

T = TypeVar("T")


def in_background(function: Callable[[], T], *, name: str) -> Future[T]:
    """Return the future result of a function that runs in a daemon thread.

    Unlike the threads of a ThreadPoolExecutor, it does not keep the process from ending.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised by `future.result()`
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
