"""WebAssembly artifacts in OCI registries: references, resolving a tag, pulling by digest, signatures."""

from wasmbed.oci.errors import ImageError
from wasmbed.oci.manifest import CONFIG_MEDIA_TYPE, LAYER_MEDIA_TYPES, MANIFEST_MEDIA_TYPE
from wasmbed.oci.reference import Reference
from wasmbed.oci.registry import Registry, RegistryConfig
from wasmbed.oci.signature import MAX_KEYS, KeyFileError, PublicKey, Signature, Verified, verify

__all__ = [
    "CONFIG_MEDIA_TYPE",
    "LAYER_MEDIA_TYPES",
    "MANIFEST_MEDIA_TYPE",
    "MAX_KEYS",
    "ImageError",
    "KeyFileError",
    "PublicKey",
    "Reference",
    "Registry",
    "RegistryConfig",
    "Signature",
    "Verified",
    "verify",
]
