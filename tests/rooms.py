"""A control room in a notebook, and how fast it answers."""

ROOM = """
from pathlib import Path
from etl import Batch, open_queue
from etl.notebook.control_room import ControlRoom
from etl.demo import dashboard
queue = open_queue("sqlite://")
room = ControlRoom(queue, dashboard, interval=0.1)
room
"""
"""A room on a store in memory."""

ANSWER = """selector => new Promise((done) => {
    const root = document.querySelector('.etl-console');
    const button = [...root.querySelectorAll(selector)]
        .find((one) => one.checkVisibility() && !one.disabled);
    const start = performance.now();
    const watch = new MutationObserver(() => { watch.disconnect();
        requestAnimationFrame(() => done(performance.now() - start)); });
    for (const area of root.querySelectorAll('.etl-answer'))
        watch.observe(area, { childList: true, subtree: true, characterData: true });
    button.click(); })"""
"""Clicks a button and returns after how many milliseconds its answer is painted."""
