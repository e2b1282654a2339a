"""wasmbed-device: the service of a Linux device that runs applications itself, linked to its gateway."""
