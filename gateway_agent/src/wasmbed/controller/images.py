"""Resolving images: once for each value of an application's ``spec.wasmImage``, with back-off after failures."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.controller.applications import Resolution
from wasmbed.controller.placements import Image
from wasmbed.oci import ImageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wasmbed.api import WasmApplication

    Resolve = Callable[[str], Awaitable[str]]

logger = logging.getLogger(__name__)

BACKOFF_S = (1.0, 120.0)


@dataclass(frozen=True)
class _Attempt:
    reference: str
    error: str
    count: int
    retry_at: float


class Images:
    """What applications' images were resolved to, by the applications' uid."""

    def __init__(self, resolve: Resolve, *, backoff_s: tuple[float, float] = BACKOFF_S) -> None:
        """`resolve` gives the digest of a reference or raises `ImageError`."""
        self._resolve = resolve
        self._backoff_s = backoff_s
        self._resolved: dict[str, Image] = {}
        self._failed: dict[str, _Attempt] = {}

    def known(self, application: WasmApplication) -> Resolution:
        """What is known without asking anyone: from this process, or from the application's status."""
        uid, status = application.metadata.uid, application.status
        image = self._resolved.get(uid)
        if image is None and status.resolved_image and status.resolved_digest:
            image = self._resolved[uid] = Image(status.resolved_image, status.resolved_digest)
        failed = self._failed.get(uid)
        if failed is not None and failed.reference == application.wasm_image:
            return Resolution(image, failed.error)
        return Resolution(image)

    def current(self, application: WasmApplication) -> Image | None:
        """The image of the present spec, if it was resolved."""
        image = self.known(application).image
        return image if image is not None and image.reference == application.wasm_image else None

    def forget(self, uid: str) -> None:
        """Drop an application that is gone."""
        self._resolved.pop(uid, None)
        self._failed.pop(uid, None)

    async def resolve(self, application: WasmApplication) -> float | None:
        """Resolve the image unless that was done; returns in how many seconds to try again, None if it is resolved."""
        uid, reference = application.metadata.uid, application.wasm_image
        if self.current(application) is not None:
            self._failed.pop(uid, None)
            return None
        loop = asyncio.get_running_loop()
        failed = self._failed.get(uid)
        if failed is not None and failed.reference != reference:
            failed = None
        if failed is not None and loop.time() < failed.retry_at:
            return failed.retry_at - loop.time()
        try:
            digest = await self._resolve(reference)
        except ImageError as error:
            count = failed.count + 1 if failed else 1
            shortest, longest = self._backoff_s
            delay = min(longest, shortest * 2.0 ** min(count - 1, 16))
            self._failed[uid] = _Attempt(reference, str(error), count, loop.time() + delay)
            logger.info("image not resolved image=%s retry_s=%.0f error=%s", reference, delay, error)
            return delay
        self._resolved[uid] = Image(reference, digest)
        self._failed.pop(uid, None)
        return None
