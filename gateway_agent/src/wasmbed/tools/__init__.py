"""What an application developer runs on a desk: `wasmbed pack` and `wasmbed run`."""
