"""Wasmbed: WebAssembly applications on edge devices, driven by Kubernetes manifests."""

__version__ = "0.1.0"
