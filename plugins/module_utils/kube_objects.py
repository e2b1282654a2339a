# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Bring many objects of one kind to their state at once, with server-side apply."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import json

from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import (
    CONNECTIONS,
    FIELD_MANAGER,
    ApiError,
    Kind,
    KubeApi,
    KubeError,
)

# Up to this many objects of one namespace are read one by one: a fleet's whole list is larger than a few objects.
GET_LIMIT = 8
SERVER_METADATA = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def key(item: dict) -> str:
    """Return C(namespace/name)."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def content(item: dict | None) -> dict:
    """Return what a user writes of an object: no status, nothing that the server fills in. Of None, nothing."""
    if item is None:
        return {}
    shown = {name: value for name, value in item.items() if name != "status"}
    metadata = {name: value for name, value in item["metadata"].items() if name not in SERVER_METADATA}
    annotations = {name: value for name, value in metadata.get("annotations", {}).items() if name != LAST_APPLIED}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    shown["metadata"] = metadata
    return shown


def without_managed_fields(item: dict) -> dict:
    """Return a copy of an object without C(metadata.managedFields)."""
    shown = copy.copy(item)
    shown["metadata"] = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    return shown


def prune(value: object) -> object:
    """Return a copy without the None values that Ansible fills in for options that were not given."""
    if isinstance(value, dict):
        return {name: prune(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [prune(item) for item in value]
    return value


def label_values(labels: dict | None) -> dict[str, str]:
    """Return labels or annotations with text values: YAML reads C(yes) and C(1) as other types."""
    return {
        str(name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (labels or {}).items()
    }


def covers(live: object, desired: object) -> bool:
    """Tell whether an object has every desired value. Lists must be equal in length and order."""
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(
            name in live and covers(live[name], value) for name, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(live) == len(desired)
            and all(covers(a, b) for a, b in zip(live, desired, strict=True))
        )
    return live == desired and isinstance(live, bool) == isinstance(desired, bool)


def owns_more(fields: dict, desired: object) -> bool:
    """Tell whether a set of owned fields (C(fieldsV1)) has one that is no longer desired, so an apply removes it."""
    for name, below in fields.items():
        mark, _dummy, rest = name.partition(":")
        if mark == "f":
            if not isinstance(desired, dict) or rest not in desired:
                return True
            item = desired[rest]
        elif mark == "k":
            wanted = json.loads(rest)
            entries = desired if isinstance(desired, list) else []
            item = next((entry for entry in entries if isinstance(entry, dict) and covers(entry, wanted)), None)
            if item is None:
                return True
        elif mark == "v":
            if not isinstance(desired, list) or json.loads(rest) not in desired:
                return True
            continue
        else:
            continue
        if below and owns_more(below, item):
            return True
    return False


def needs_apply(live: dict | None, desired: dict) -> bool:
    """Tell whether an apply of C(desired) could change the object. In doubt yes: the server's answer decides then."""
    if live is None or not covers(live, desired):
        return True
    for entry in live["metadata"].get("managedFields", []):
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return owns_more(entry.get("fieldsV1", {}), desired)
    # Never applied by us: an apply would only note that we, too, want these values.
    return False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one object: its content before and after, the object answered, the server's refusal."""

    key: str
    before: dict
    after: dict
    live: dict | None = None
    error: str = ""

    @property
    def changed(self) -> bool:
        return not self.error and self.before != self.after

    @property
    def verb(self) -> str:
        """One of refused, unchanged, created, updated, deleted."""
        if self.error:
            return "refused"
        if not self.changed:
            return "unchanged"
        if not self.before:
            return "created"
        return "updated" if self.after else "deleted"

    def diff(self) -> dict:
        """Return Ansible's form of a difference."""
        return {
            "before_header": self.key,
            "after_header": self.key,
            "before": self.before or "",
            "after": self.after or "",
        }


class Reconciler:
    """Reads, applies and deletes objects of one kind. With C(dry_run) the server only checks and answers."""

    def __init__(self, api: KubeApi, kind: Kind, *, dry_run: bool, force: bool = True) -> None:
        self._api = api
        self._kind = kind
        self._dry_run = dry_run
        self._force = force

    def read(self, wanted: list[tuple[str, str]]) -> dict[str, dict]:
        """Return the objects that exist of these (namespace, name), by key: one paged list for each namespace."""
        found: dict[str, dict] = {}
        for namespace in sorted({namespace for namespace, dummy in wanted}):
            names = [name for other, name in wanted if other == namespace]
            if len(names) <= GET_LIMIT:
                items = [self._api.get(self._kind, namespace, name) for name in names]
            else:
                items = self._api.list(self._kind, namespace)
            found.update((key(item), self._typed(item)) for item in items if item is not None)
        return found

    def select(self, namespace: str, labels: str) -> dict[str, dict]:
        """Return the objects of a namespace that a label selector chooses, by key."""
        return {key(item): self._typed(item) for item in self._api.list(self._kind, namespace, labels=labels)}

    def apply(self, desired: list[dict], found: dict[str, dict]) -> list[Outcome]:
        """Apply those that differ, several at a time; every object is tried."""

        def one(item: dict) -> Outcome:
            live = found.get(key(item))
            before = content(live)
            if not needs_apply(live, item):
                return Outcome(key(item), before, before, live)
            try:
                after = self._api.apply(self._kind, item, dry_run=self._dry_run, force=self._force)
            except ApiError as error:
                return Outcome(key(item), before, before, live, _refusal(error))
            return Outcome(key(item), before, content(after), after)

        return self._parallel(one, desired)

    def delete(self, items: list[dict]) -> list[Outcome]:
        """Delete these objects, several at a time; every object is tried."""

        def one(item: dict) -> Outcome:
            try:
                self._api.delete(self._kind, item, dry_run=self._dry_run)
            except ApiError as error:
                return Outcome(key(item), content(item), content(item), item, _refusal(error))
            return Outcome(key(item), content(item), {})

        return self._parallel(one, items)

    def _typed(self, item: dict) -> dict:
        """Give an item of a list the type that the server leaves out there."""
        return {"apiVersion": self._kind.api_version, "kind": self._kind.kind, **item}

    @staticmethod
    def _parallel(one, items: list[dict]) -> list[Outcome]:
        if not items:
            return []
        with concurrent.futures.ThreadPoolExecutor(min(CONNECTIONS, len(items))) as pool:
            futures = [pool.submit(one, item) for item in items]
            try:
                return [future.result() for future in futures]
            except KubeError:
                # The server is gone: do not try the rest.
                pool.shutdown(cancel_futures=True)
                raise


def _refusal(error: ApiError) -> str:
    """Return the server's message, with the remedy for a conflict of field managers."""
    if error.status == 409 and "conflict" in error.message:
        return f"{error.message}; remove the fields from the task, or set force_conflicts to take them over"
    return error.message
