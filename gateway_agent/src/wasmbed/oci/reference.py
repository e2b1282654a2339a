"""Image references as the OCI distribution specification writes them (v1.1, Pulling manifests)."""

import re
from dataclasses import dataclass, replace

from wasmbed.oci.errors import ImageError

MAX_REFERENCE_LENGTH = 512
MAX_REPOSITORY_LENGTH = 255

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """`registry/repository:tag`, `registry/repository@sha256:...` or both; the digest is what counts."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Take `text` apart; raises ImageError saying which part is wrong."""
        if len(text) > MAX_REFERENCE_LENGTH:
            raise ImageError(
                f"the image reference is longer than {MAX_REFERENCE_LENGTH} characters; shorten it", permanent=True
            )
        shown = repr(text)[1:-1]
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise ImageError(f"{shown}: the digest must be sha256: and 64 hexadecimal digits", permanent=True)
        registry, slash, path = rest.partition("/")
        explicit = "." in registry or ":" in registry or registry == "localhost"
        if not slash or not explicit or not _HOST.fullmatch(registry):
            raise ImageError(f"{shown}: must begin with a registry host, as in registry.example/app:v1", permanent=True)
        repository, colon, tag = path.partition(":")
        if len(repository) > MAX_REPOSITORY_LENGTH or not _REPOSITORY.fullmatch(repository):
            raise ImageError(
                f"{shown}: the repository may have lower-case letters, digits, '.', '_', '-' and '/'", permanent=True
            )
        if colon and not _TAG.fullmatch(tag):
            raise ImageError(
                f"{shown}: the tag may have up to 128 letters, digits, '_', and after the first '.' and '-'",
                permanent=True,
            )
        if not colon and not at:
            raise ImageError(f"{shown}: has neither tag nor digest; add one, as in {shown}:v1", permanent=True)
        return cls(registry, repository, tag if colon else None, digest if at else None)

    def with_digest(self, digest: str) -> "Reference":
        """The same image pinned to `digest`; raises ImageError when it is not a sha256 digest."""
        if not _DIGEST.fullmatch(digest):
            raise ImageError(
                f"{self}: {digest[:80]!r} is not a digest; it must be sha256: and 64 hexadecimal digits", permanent=True
            )
        return replace(self, digest=digest)

    @property
    def name(self) -> str:
        """The image without its digest."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else self.name
