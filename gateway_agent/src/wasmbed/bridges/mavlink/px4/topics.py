"""The topics of the uXRCE-DDS client and their quality of service, by release."""

from dataclasses import dataclass

from wasmbed.bridges.mavlink.px4.messages import definitions

OUTPUTS = {
    "VehicleStatus": "vehicle_status",
    "BatteryStatus": "battery_status",
    "VehicleLocalPosition": "vehicle_local_position",
    "VehicleGlobalPosition": "vehicle_global_position",
    "VehicleAttitude": "vehicle_attitude",
    "VehicleOdometry": "vehicle_odometry",
    "SensorCombined": "sensor_combined",
    "SensorGps": "vehicle_gps_position",
    "HomePosition": "home_position",
    "VehicleLandDetected": "vehicle_land_detected",
    "VehicleCommandAck": "vehicle_command_ack",
    "ManualControlSetpoint": "manual_control_setpoint",
    "ActuatorOutputs": "actuator_outputs",
}
"""What a vehicle publishes. ActuatorOutputs is not among PX4's own; it comes from MAVLink all the same."""

INPUTS = {
    "VehicleCommand": "vehicle_command",
    "OffboardControlMode": "offboard_control_mode",
    "TrajectorySetpoint": "trajectory_setpoint",
    "VehicleAttitudeSetpoint": "vehicle_attitude_setpoint",
    "VehicleRatesSetpoint": "vehicle_rates_setpoint",
    "ManualControlSetpoint": "manual_control_input",
    "VehicleOdometry": "vehicle_visual_odometry",
}
"""What a vehicle takes."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A ROS topic of a vehicle. PX4 writes best effort and transient local, and reads best effort and volatile.

    `depth` is how many samples wait to be sent or taken; a mode and an arming follow each other closely.
    """

    name: str
    message: str
    reliable: bool = False
    transient_local: bool = False
    depth: int = 1


def topics(release: str, namespace: str = "") -> tuple[dict[str, Topic], dict[str, Topic]]:
    """The output and input topics by message. A version above 0 is part of the name: `vehicle_status_v1`.

    `namespace` is the vehicle's, such as `uav_1`; several vehicles need one each.
    """
    known = definitions(release)
    start = f"/{namespace}" if namespace else ""

    def name(side: str, message: str, topic: str) -> str:
        version = known[message].version
        return f"{start}/fmu/{side}/{topic}{f'_v{version}' if version else ''}"

    outputs = {item: Topic(name("out", item, topic), item, transient_local=True) for item, topic in OUTPUTS.items()}
    inputs = {item: Topic(name("in", item, topic), item, depth=16) for item, topic in INPUTS.items()}
    return outputs, inputs
