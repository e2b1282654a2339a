"""Messages and fields of MAVLink's common set that the XML of pymavlink does not have (it is ArduPilot's).

One entry a message: number, name, fields in their declared order as `type name name; type name`, extensions behind a
bar. PX4 and ground stations send these: COMMAND_CANCEL, the event interface, component metadata and the ids of plans.
"""

from collections.abc import Iterator

MESSAGES = (
    (
        8,
        "LINK_NODE_STATUS",
        "u64 timestamp; u8 tx_buf rx_buf; u32 tx_rate rx_rate; u16 rx_parse_err tx_overflows "
        "rx_overflows; u32 messages_sent messages_received messages_lost",
    ),
    (80, "COMMAND_CANCEL", "u8 target_system target_component; u16 command"),
    (
        290,
        "ESC_INFO",
        "u8 index; u64 time_usec; u16 counter; u8 count connection_type info; u16[4] failure_flags; "
        "u32[4] error_count; i16[4] temperature",
    ),
    (291, "ESC_STATUS", "u8 index; u64 time_usec; i32[4] rpm; f32[4] voltage current"),
    (300, "PROTOCOL_VERSION", "u16 version min_version max_version; u8[8] spec_version_hash library_version_hash"),
    (
        334,
        "CELLULAR_STATUS",
        "u8 status failure_reason type quality; u16 mcc mnc lac | u8 id; u32 link_tx_rate link_rx_rate; "
        "char[9] cell_tower_id; u8 band_number; f32 band_frequency; u32 channel_number; f32 rx_level "
        "tx_level rx_quality sinr",
    ),
    (
        336,
        "CELLULAR_CONFIG",
        "u8 enable_lte enable_pin; char[16] pin new_pin; char[32] apn; char[16] puk; u8 roaming response",
    ),
    (
        361,
        "FIGURE_EIGHT_EXECUTION_STATUS",
        "u64 time_usec; f32 major_radius minor_radius orientation; u8 frame; i32 x y; f32 z",
    ),
    (
        371,
        "FUEL_STATUS",
        "u8 id; f32 maximum_fuel consumed_fuel remaining_fuel; u8 percent_remaining; f32 flow_rate "
        "temperature; u32 fuel_type",
    ),
    (
        372,
        "BATTERY_INFO",
        "u8 id battery_function type state_of_health cells_in_series; u16 cycle_count weight; f32 "
        "discharge_minimum_voltage charging_minimum_voltage resting_minimum_voltage "
        "charging_maximum_voltage charging_maximum_current nominal_voltage discharge_maximum_current "
        "discharge_maximum_burst_current design_capacity full_charge_capacity; char[9] manufacture_date; "
        "char[32] serial_number; char[50] name",
    ),
    (380, "TIME_ESTIMATE_TO_TARGET", "i32 safe_return land mission_next_item mission_end commanded_action"),
    (
        395,
        "COMPONENT_INFORMATION",
        "u32 time_boot_ms general_metadata_file_crc; char[100] general_metadata_uri; u32 "
        "peripherals_metadata_file_crc; char[100] peripherals_metadata_uri",
    ),
    (
        396,
        "COMPONENT_INFORMATION_BASIC",
        "u32 time_boot_ms; u64 capabilities; u32 time_manufacture_s; char[32] vendor_name model_name; "
        "char[24] software_version hardware_version; char[32] serial_number",
    ),
    (397, "COMPONENT_METADATA", "u32 time_boot_ms file_crc; char[100] uri"),
    (400, "PLAY_TUNE_V2", "u8 target_system target_component; u32 format; char[248] tune"),
    (401, "SUPPORTED_TUNES", "u8 target_system target_component; u32 format"),
    (
        410,
        "EVENT",
        "u8 destination_component destination_system; u32 id event_time_boot_ms; u16 sequence; u8 "
        "log_levels; u8[40] arguments",
    ),
    (411, "CURRENT_EVENT_SEQUENCE", "u16 sequence; u8 flags"),
    (412, "REQUEST_EVENT", "u8 target_system target_component; u16 first_sequence last_sequence"),
    (
        413,
        "RESPONSE_EVENT_ERROR",
        "u8 target_system target_component; u16 sequence sequence_oldest_available; u8 reason",
    ),
    (
        440,
        "ILLUMINATOR_STATUS",
        "u32 uptime_ms; u8 enable mode_bitmask; u32 error_status; u8 mode; f32 brightness strobe_period "
        "strobe_duty_cycle temp_c min_strobe_period max_strobe_period",
    ),
)

EXTENSIONS = {
    "MISSION_CURRENT": "u32 mission_id fence_id rally_points_id",
    "MISSION_COUNT": "u32 opaque_id",
    "MISSION_ACK": "u32 opaque_id",
    "SET_ATTITUDE_TARGET": "f32[3] thrust_body",
    "TIMESYNC": "u8 target_system target_component",
    "SERIAL_CONTROL": "u8 target_system target_component",
    "WIFI_CONFIG_AP": "i8 mode response",
    "AVAILABLE_MODES": "u8 seq",
}

ENTRIES = {
    "MAV_RESULT": {
        6: "MAV_RESULT_CANCELLED",
        9: "MAV_RESULT_COMMAND_UNSUPPORTED_MAV_FRAME",
        10: "MAV_RESULT_NOT_IN_CONTROL",
    },
}

_TYPES = {
    "char": "char",
    "f32": "float",
    "f64": "double",
    **{f"{sign}{bits}": f"{'u' * (sign == 'u')}int{bits}_t" for sign in "ui" for bits in (8, 16, 32, 64)},
}


def fields(text: str) -> Iterator[tuple[str, str, int, bool]]:
    """Name, C type, array length and whether it is an extension, for each field of an entry."""
    for number, part in enumerate(text.split(" | ")):
        for group in part.split("; "):
            kind, *names = group.split()
            base, _, array = kind.partition("[")
            for name in names:
                yield name, _TYPES[base], int(array.rstrip("]")) if array else 0, number == 1
