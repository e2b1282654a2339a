"""The manifest of a WebAssembly artifact (CNCF TAG Runtime, Wasm OCI Artifact layout; OCI image-spec v1.1)."""

import json
from dataclasses import dataclass
from typing import Any

from wasmbed.oci.errors import ImageError

MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_MEDIA_TYPE = "application/vnd.wasm.config.v0+json"
LAYER_MEDIA_TYPES = ("application/wasm", "application/vnd.wasm.content.layer.v1+wasm")

_REMEDY = "push it as a WebAssembly artifact (for example with the wasm_artifact module)"


@dataclass(frozen=True)
class Layer:
    """The descriptor of the module: where it is and how large it says it is (bytes)."""

    digest: str
    size: int


def wasm_layer(data: bytes, name: str) -> Layer:
    """The one module of the manifest `data`; `name` stands for the image in messages.

    Raises a permanent ImageError when it is not a manifest of a WebAssembly artifact.
    """
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{name}: its manifest is not JSON; {_REMEDY}", permanent=True) from error
    if not isinstance(manifest, dict) or manifest.get("mediaType", MANIFEST_MEDIA_TYPE) != MANIFEST_MEDIA_TYPE:
        found = manifest.get("mediaType") if isinstance(manifest, dict) else type(manifest).__name__
        raise ImageError(f"{name}: is a {_shown(found)}, not an image manifest; {_REMEDY}", permanent=True)
    config = manifest.get("config")
    config_type = config.get("mediaType") if isinstance(config, dict) else None
    if config_type != CONFIG_MEDIA_TYPE:
        raise ImageError(
            f"{name}: its config is {_shown(config_type)}, not {CONFIG_MEDIA_TYPE}; {_REMEDY}", permanent=True
        )
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        count = len(layers) if isinstance(layers, list) else 0
        raise ImageError(f"{name}: has {count} layers, not one; {_REMEDY}", permanent=True)
    return _layer(layers[0], name)


def _layer(descriptor: Any, name: str) -> Layer:
    if not isinstance(descriptor, dict) or descriptor.get("mediaType") not in LAYER_MEDIA_TYPES:
        found = descriptor.get("mediaType") if isinstance(descriptor, dict) else None
        raise ImageError(f"{name}: its layer is {_shown(found)}, not {LAYER_MEDIA_TYPES[0]}; {_REMEDY}", permanent=True)
    digest, size = descriptor.get("digest"), descriptor.get("size")
    if not isinstance(digest, str) or not digest.startswith("sha256:") or type(size) is not int or size < 0:
        raise ImageError(f"{name}: its layer has no sha256 digest and size; {_REMEDY}", permanent=True)
    return Layer(digest, size)


def _shown(value: object) -> str:
    return str(value)[:100] if value else "of no media type"
