"""A simulated autopilot, written from the MAVLink guide: a development tool that shares no code with Wasmbed's bridge.

It is no independent peer, and no PX4: its flight is that of a point with limited speed. The protocols are in
`SimulatedVehicle`, which takes and gives (name, fields) pairs and a time, so tests can put any network between it and
the bridge; `python -m wasmbed_sitl` speaks over UDP by pymavlink.
"""

from wasmbed_sitl.vehicle import SimulatedVehicle

__all__ = ["SimulatedVehicle"]
