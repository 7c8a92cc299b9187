"""Statements that are asked all the time, or by whoever looks, with values: none may read a
large table from end to end.
"""

from __future__ import annotations

from typing import Any

IDS = {"ids": "[1, 2]"}

STATEMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "totals": ("", {}),
    "batches_done": ("", {}),
    "dead_letters": (
        "status = :status AND id < :before",
        {"status": "open", "before": 9_999, "limit": 50, "skip": 9},
    ),
    "dead_letter_groups": ("status = :status", {"status": "open"}),
    "lines_with_status": ("", {"ids": "[1, 2]", "was": "open"}),
    "change_status": (
        "",
        {"ids": "[1, 2]", "was": "open", "status": "discarded", "replays": 0, "closed_at": 1.0},
    ),
    "anything_ready": ("", {"now": None}),
    "anything_waiting": ("", {}),
    "expire_leases": ("", {"now": 1.0}),
    "ready_batches": ("", {"now": 1e10, "after": 0, "limit": 8}),
    "next_batch": ("", {"after": 10_000, "state": "waiting"}),
    "known_ids": ("", {"texts": '["b1", "b2"]'}),
    "take_leased": ("", {"token": "t100"}),
    "renew_lease": ("", {"token": "t100", "now": 1.0, "until": 1e18}),
    "begin_leases_now": ("", {"now": 1.0}),
    "count_hang": ("", {"token": "t100", "batch": "b1"}),
    "release_lease": ("", {"token": "t100", "not_before": 0.0}),
    "delete_unused_payloads": ("", {"ids": "[1]"}),
    "forget_ids": ("", {"since": 10.0, "limit": 100}),
    "newest_of_kinds": (
        "id < :before",
        {
            "ids": "[1, 2]",
            "statuses": '["open", "replayed"]',
            "before": 9_999,
            "limit": 50,
            "skip": 9,
        },
    ),
    "forget_closed": ("", {"since": 10.0, "limit": 100}),
    "forget_failures": ("", {"ids": "[1, 2]"}),
    "check_failures": ("", {"after": 0, "limit": 10}),
}
