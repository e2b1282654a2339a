"""Bridges between applications and the protocols of devices."""
