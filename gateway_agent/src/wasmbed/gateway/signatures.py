"""The gateway's policy for signatures: whose applications run here."""

from __future__ import annotations

import asyncio
import base64
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from wasmbed.api import WARNING
from wasmbed.oci import MAX_KEYS, ImageError, KeyFileError, PublicKey, Reference, Signature, Verified, verify
from wasmbed.oci.signature import MAX_KEY_BYTES
from wasmbed.service import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from wasmbed.gateway.config import SignaturesConfig
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.gateway.state import Store
    from wasmbed.oci import Registry

_log = logging.getLogger(__name__)

_FACT: Final = "signatures"
_REMEDY: Final = "sign it (wasm_artifact: signing_key) or add its key to gateway_signature_keys"


class UntrustedError(ImageError):
    """The registry was asked, and no signature makes this image one that may run here."""


def load_keys(config: SignaturesConfig) -> tuple[PublicKey, ...]:
    """Read the keys of a configuration; raises ConfigError naming the file."""
    keys: list[PublicKey] = []
    for path in config.keys:
        try:
            with path.open("rb") as file:
                keys += PublicKey.all_from_pem(file.read(MAX_KEY_BYTES + 1))
        except OSError as error:
            raise ConfigError(f"signatures.keys: {path} cannot be read: {error.strerror}") from error
        except KeyFileError as error:
            raise ConfigError(f"signatures.keys: {path}: {error}") from error
    if len(keys) > MAX_KEYS:
        raise ConfigError(f"signatures.keys: {len(keys)} keys; {MAX_KEYS} are allowed")
    return tuple(keys)


class Signatures:
    """Decides about images by their signatures.

    A signature that held is kept with its payload, so that a gateway that cannot reach its registry goes on running
    what it has verified. It is verified again with the keys of now whenever it is needed, so a key that is taken away
    counts at once.
    """

    def __init__(self, config: SignaturesConfig, registry: Registry, store: Store, metrics: Metrics) -> None:
        """Raise ConfigError for a key that cannot be used."""
        self._policy = config.policy
        self._keys = load_keys(config) if config.policy != "off" else ()
        self._registry = registry
        self._store = store
        self._metrics = metrics
        self._known: dict[str, Signature] | None = None
        self._saving = asyncio.Lock()

    @property
    def active(self) -> bool:
        """Whether signatures are looked at."""
        return self._policy != "off"

    async def check(self, digest: str, references: Iterable[Reference], *, keep: Collection[str]) -> str:
        """Decide about an image; the text of a warning, empty when there is none.

        `references` are what it may be asked for by; of what was verified that in `keep` is remembered. Raises, when
        the policy is `required`, UntrustedError for an image that has no good signature, ImageError when that is not
        known because no registry can be asked.
        """
        if not self.active:
            return ""
        known = await self._remembered()
        if digest in known and isinstance(found := verify(digest, [known[digest]], self._keys), Verified):
            self._metrics.signature_checks.labels("remembered").inc()
            return ""
        try:
            found = await self._ask(digest, references)
        except ImageError as error:
            self._metrics.signature_checks.labels("unknown").inc()
            if self._policy == "required":
                raise ImageError(f"its signature cannot be looked for: {error}") from error
            return self._warn(digest, f"its signature is not checked: {error}")
        if isinstance(found, Verified):
            self._metrics.signature_checks.labels("verified").inc()
            _log.info("signature verified digest=%s key=%s", digest, found.key)
            await self._remember(digest, found.signature, keep)
            return ""
        self._metrics.signature_checks.labels("refused").inc()
        if self._policy == "required":
            raise UntrustedError(found)
        return self._warn(digest, found)

    def _warn(self, digest: str, why: str) -> str:
        _log.warning("runs without a good signature digest=%s why=%s", digest, why)
        return f"{WARNING}{why}"

    async def _ask(self, digest: str, references: Iterable[Reference]) -> Verified | str:
        why, failure = "", ImageError("no image is named", permanent=True)
        for reference in references:
            try:
                signatures = await self._registry.signatures(reference)
            except ImageError as error:
                failure = error
                continue
            # Up to MAX_SIGNATURES * MAX_KEYS verifications, too long for the loop.
            found = await asyncio.to_thread(verify, digest, signatures, self._keys)
            if isinstance(found, Verified):
                return found
            why = why or f"{reference.name}@{digest[:19]}: {found}; {_REMEDY}"
        if not why:
            raise failure
        return why

    async def _remembered(self) -> dict[str, Signature]:
        if self._known is None:
            self._known = _decode(await self._store.fact(_FACT))
        return self._known

    async def _remember(self, digest: str, signature: Signature, keep: Collection[str]) -> None:
        async with self._saving:
            known = {name: item for name, item in (await self._remembered()).items() if name in keep}
            known[digest] = signature
            self._known = known
            try:
                await self._store.save_fact(_FACT, {name: _encode(item) for name, item in known.items()})
            except sqlite3.Error as error:
                _log.error("signature not saved; free space in the state directory error=%s", error)


def _encode(signature: Signature) -> list[str]:
    return [base64.b64encode(part).decode() for part in (signature.payload, signature.signature)]


def _decode(value: Any) -> dict[str, Signature]:
    """What was saved; nothing of it is trusted before it is verified again."""
    try:
        return {
            str(digest): Signature(*(base64.b64decode(part) for part in parts))
            for digest, parts in (value or {}).items()
        }
    except (AttributeError, TypeError, ValueError):
        return {}
