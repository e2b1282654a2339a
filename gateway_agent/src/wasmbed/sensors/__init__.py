"""Sensors for applications: what the machine itself measures, files, cameras, and the autopilot's own."""

from wasmbed.sensors.backend import SensorBackend
from wasmbed.sensors.config import SensorConfig
from wasmbed.sensors.sample import Reading, VehicleSource, sample

__all__ = ["Reading", "SensorBackend", "SensorConfig", "VehicleSource", "sample"]
