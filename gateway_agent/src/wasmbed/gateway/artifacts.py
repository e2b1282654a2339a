"""Getting the modules of digests: from disk, else from the registry."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wasmbed.oci import ImageError, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wasmbed.gateway.blobs import Blobs
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.gateway.signatures import Signatures
    from wasmbed.oci import Registry

_log = logging.getLogger(__name__)


class Artifacts:
    """Modules by digest, a bounded number of pulls at a time and each digest once at a time.

    `keep` are the digests that somebody wants and that must not make room for others.
    """

    def __init__(
        self, registry: Registry, blobs: Blobs, signatures: Signatures, metrics: Metrics, *, concurrent_pulls: int
    ) -> None:
        self._registry = registry
        self._signatures = signatures
        self._blobs = blobs
        self._metrics = metrics
        self._slots = asyncio.Semaphore(concurrent_pulls)
        self._pulling: dict[str, asyncio.Lock] = {}
        self.keep: frozenset[str] = frozenset()

    @property
    def verifies(self) -> bool:
        """Whether signatures are looked at, so that what runs already is to be looked at too."""
        return self._signatures.active

    async def ensure(self, digest: str, images: Iterable[str], *, limit_bytes: int) -> str:
        """Have the module of `digest` on disk, signed as the policy says; `images` are the references to pull it by.

        Returns a warning about its signature, mostly empty. Raises ImageError, also for a module on disk that is larger
        than `limit_bytes`, UntrustedError for one that may not run here.
        """
        # Fifty devices that are given the same application want the same module at once.
        lock = self._pulling.setdefault(digest, asyncio.Lock())
        try:
            async with lock:
                return await self._ensure(digest, sorted(images), limit_bytes)
        finally:
            if not lock.locked():
                self._pulling.pop(digest, None)

    async def _ensure(self, digest: str, images: list[str], limit_bytes: int) -> str:
        references = [_reference(image, digest) for image in images] if self.verifies else []
        warning = await self._signatures.check(digest, references, keep=self.keep)
        size = self._blobs.size(digest)
        if size is not None:
            if size > limit_bytes:
                raise ImageError(
                    f"its module has {size} bytes, more than the {limit_bytes} allowed; make it smaller or raise "
                    "maxArtifactBytes of the gateway"
                )
            return warning
        async with self._slots:
            module = await self._pull(digest, images, limit_bytes)
        await self._blobs.add(digest, module, keep=self.keep)
        return warning

    async def read(self, digest: str) -> bytes | None:
        """The module of `digest`, None when it is not on disk any more."""
        return await self._blobs.read(digest)

    async def _pull(self, digest: str, images: list[str], limit_bytes: int) -> bytes:
        failure = ImageError("no image is named", permanent=True)
        for image in images:
            try:
                reference = _reference(image, digest)
                with self._metrics.pull_seconds.time():
                    module = await self._registry.pull(reference, limit_bytes=limit_bytes)
            except ImageError as error:
                failure = error
                self._metrics.pulls.labels("failed").inc()
                _log.warning("pull failed digest=%s error=%s", digest, error)
            else:
                self._metrics.pulls.labels("pulled").inc()
                _log.info("pulled image=%s digest=%s bytes=%d", image, digest, len(module))
                return module
        raise failure


def _reference(image: str, digest: str) -> Reference:
    # The image of a Placement has its tag, or nothing when the application named a digest.
    name = image.rpartition("/")[2]
    text = image if ":" in name or "@" in name else f"{image}@{digest}"
    return Reference.parse(text).with_digest(digest)
