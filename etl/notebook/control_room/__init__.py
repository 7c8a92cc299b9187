"""The control room: watch and control a store from a notebook, or as a web page."""

from etl.notebook.control_room.control_room import ControlRoom, attended

__all__ = ["ControlRoom", "attended"]
