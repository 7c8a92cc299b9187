"""Whether a process of this machine still runs."""

from __future__ import annotations

import os
import socket

import psutil

__all__ = ["HERE", "Host", "alive", "began_after", "birth"]

CREATED_WITHIN = 1.0
"""Seconds to which it is known when a process began."""


class Host:
    """This machine and its processes, as a store knows them; simulations give another one."""

    @property
    def name(self) -> str:
        """Its name on the network."""
        return socket.gethostname()

    @property
    def process(self) -> int:
        """Number of the process that asks."""
        return os.getpid()

    def alive(self, pid: int) -> bool:
        """Return whether a process of this machine runs."""
        return alive(pid)

    def began_after(self, pid: int, at: float) -> bool:
        """See `began_after`."""
        return began_after(pid, at)


HERE = Host()


def alive(pid: int, born: str = "") -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not.

    Args:
        pid: Its number.
        born: Its `birth`, where known: a number is used again, at the latest after a restart.
    """
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's process
        return True
    return status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) and born in ("", birth(pid))


def began_after(pid: int, at: float) -> bool:
    """Return whether a process began after some Unix seconds: its number was another's."""
    try:
        return bool(psutil.Process(pid).create_time() > at + CREATED_WITHIN)
    except psutil.Error:
        return False


def birth(pid: int) -> str:
    """Return when a process began, in 1/100 s since the machine did; empty if that is not known.

    A time since the machine began does not change when its clock is set.
    """
    try:
        return str(round((psutil.Process(pid).create_time() - psutil.boot_time()) * 100))
    except psutil.Error:
        return ""
