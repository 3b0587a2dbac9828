"""How far a child is before it is ready, and the reason for the log when it is too slow or dies.

A child tells each step as it begins: after a crash it cannot. It tells on which line its code
stands when it is asked for its stacks (process/stack_dump.py).
"""

from __future__ import annotations

LOAD, START = "load", "on_worker_start"  # the steps in which the user's code runs


def lateness(step: str, target: str | None, worker: str, seconds: float, where: str) -> str:
    """Why a child that has not done `step` after `seconds` is ended. where: the line on which it
    stands, or ""."""
    at = f", at {where}" if where else ""
    if step == LOAD:
        return f"target {target} was still being loaded after {seconds:g} s{at}"
    doing = f": on_worker_start of {worker} had not returned" if step == START else ""
    return f"not ready within {seconds:g} s{doing}{at}"


def crash(step: str, target: str | None, worker: str, reason: str) -> str:
    """`reason` (as `exit_status.describe` gives it), with the step in which that happened."""
    if step == LOAD:
        return f"{reason} while target {target} was being loaded"
    if step == START:
        return f"{reason} in on_worker_start of {worker}"
    return reason
