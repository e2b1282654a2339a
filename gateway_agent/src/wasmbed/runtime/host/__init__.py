"""Host functions: what a module can ask of the host, one file for each import module."""

from wasmbed.runtime.host.functions import HostFunctions

__all__ = ["HostFunctions"]
