"""WebAssembly artifacts in OCI registries: references, resolving a tag, pulling by digest."""

from wasmbed.oci.errors import ImageError
from wasmbed.oci.manifest import CONFIG_MEDIA_TYPE, LAYER_MEDIA_TYPES, MANIFEST_MEDIA_TYPE
from wasmbed.oci.reference import Reference
from wasmbed.oci.registry import Registry, RegistryConfig

__all__ = [
    "CONFIG_MEDIA_TYPE",
    "LAYER_MEDIA_TYPES",
    "MANIFEST_MEDIA_TYPE",
    "ImageError",
    "Reference",
    "Registry",
    "RegistryConfig",
]
