"""Pieces of work: what a change leads to."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

Key = tuple[str, str]


class Do(StrEnum):
    """Kinds of work, which are also the names of the reconcilers in the metrics."""

    APPLICATION = "application"
    IMAGE = "image"
    PLACEMENTS = "placements"
    SUMMARY = "summary"
    STATUS = "status"
    ORPHAN = "orphan"
    SLICES = "slices"
    LEASE = "lease"
    DEVICE = "device"
    INCIDENTS = "incidents"


class Work(NamedTuple):
    """Something to reconcile: an object by namespace and name (empty where there is none), and a gateway."""

    do: Do
    key: Key = ("", "")
    gateway: str = ""
