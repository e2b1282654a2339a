"""What the instances of a worker share: which host modules have something behind them, keys, and the owners."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from typing import TYPE_CHECKING

from wasmbed.runtime.protocol import NO_BLOCK, Provision
from wasmbed.runtime.sealing import Sealer

if TYPE_CHECKING:
    from pathlib import Path

    from wasmbed.runtime.protocol import Secret

_NOTHING = Provision("-", (), link=False)


class Backends:
    """Provisions by device and sealing keys by application and device; for use from any thread."""

    def __init__(self, owners: Path) -> None:
        """Owners is a private directory for the locks of devices, the same for all workers of a runtime."""
        self._provisions: dict[str, Provision] = {}
        self._sealers: dict[tuple[str, str], Sealer] = {}
        self._lock = threading.Lock()
        self.owners = owners

    def of(self, device: str) -> Provision:
        """Return what a device's host modules have behind them; nothing when nobody said so."""
        return self._provisions.get(device, _NOTHING)

    def has(self, device: str, module: str) -> bool:
        return module in self.of(device).available

    def provide(self, provision: Provision) -> Provision:
        """Replace what is known of a device; return what was before."""
        before = self.of(provision.device)
        self._provisions[provision.device] = provision
        return before

    def peer_lost(self) -> list[Provision]:
        """Forget all backends, not the links; return what there was."""
        before = list(self._provisions.values())
        for provision in before:
            self._provisions[provision.device] = Provision(provision.device, (), provision.link, ())
        return before

    def secret(self, secret: Secret) -> None:
        with self._lock:
            key = (secret.application, secret.device)
            sealer = self._sealers.get(key)
            if sealer is None or not sealer.has_key(secret.key):
                sealer = self._sealers[key] = Sealer(secret.application, secret.device, secret.key, secret.received)
            if secret.sequence != NO_BLOCK:
                sealer.add_block(secret.sequence)

    def sealer(self, application: str, device: str) -> Sealer | None:
        return self._sealers.get((application, device))


class Ownership:
    """The autopilot of one device, of which one instance at a time is the owner; a lock that ends with its process."""

    def __init__(self, directory: Path, device: str) -> None:
        self._path = directory / hashlib.sha256(device.encode()).hexdigest()
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Become the owner; False when another instance is."""
        with self._lock:
            if self._descriptor is not None:
                return True
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
            return True

    def release(self) -> bool:
        """Give up; tell whether it was held."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return True

    def take_from(self, other: Ownership) -> bool:
        """Take over what another version of the same instance holds; tell whether it held it."""
        with other._lock:
            descriptor, other._descriptor = other._descriptor, None
        if descriptor is None:
            return False
        with self._lock:
            self._descriptor = descriptor
        return True
