"""Field layouts of the px4_msgs that the bridge converts, for PX4 1.14 to 1.18.

An entry holds from its release on: release, message version and fields in order as `type name name; type name`; no
fields means those of the entry before. A version above 0 is part of the topic's name from 1.16 on (`_v1`).
"""

LAYOUTS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "VehicleCommand": (
        (
            "1.14",
            0,
            "u64 timestamp; f32 param1 param2 param3 param4; f64 param5 param6; f32 param7; u32 command; u8 "
            "target_system target_component source_system source_component confirmation; bool from_external",
        ),
        (
            "1.15",
            0,
            "u64 timestamp; f32 param1 param2 param3 param4; f64 param5 param6; f32 param7; u32 command; u8 "
            "target_system target_component source_system; u16 source_component; u8 confirmation; bool "
            "from_external",
        ),
    ),
    "VehicleCommandAck": (
        (
            "1.14",
            0,
            "u64 timestamp; u32 command; u8 result result_param1; i32 result_param2; u8 target_system "
            "target_component; bool from_external",
        ),
        (
            "1.15",
            0,
            "u64 timestamp; u32 command; u8 result result_param1; i32 result_param2; u8 target_system; u16 "
            "target_component; bool from_external",
        ),
        ("1.18", 1, ""),
    ),
    "VehicleStatus": (
        (
            "1.14",
            0,
            "u64 timestamp armed_time takeoff_time; u8 arming_state latest_arming_reason latest_disarming_reason; "
            "u64 nav_state_timestamp; u8 nav_state_user_intention nav_state; u16 failure_detector_status; u8 "
            "hil_state vehicle_type; bool failsafe failsafe_and_user_took_over gcs_connection_lost; u8 "
            "gcs_connection_lost_counter; bool high_latency_data_link_lost is_vtol is_vtol_tailsitter "
            "in_transition_mode in_transition_to_fw; u8 system_type system_id component_id; bool "
            "safety_button_available safety_off power_input_valid usb_connected open_drone_id_system_present "
            "open_drone_id_system_healthy parachute_system_present parachute_system_healthy "
            "avoidance_system_required avoidance_system_valid rc_calibration_in_progress calibration_enabled "
            "pre_flight_checks_pass",
        ),
        (
            "1.15",
            0,
            "u64 timestamp armed_time takeoff_time; u8 arming_state latest_arming_reason latest_disarming_reason; "
            "u64 nav_state_timestamp; u8 nav_state_user_intention nav_state executor_in_charge; u32 "
            "valid_nav_states_mask can_set_nav_states_mask; u16 failure_detector_status; u8 hil_state "
            "vehicle_type; bool failsafe failsafe_and_user_took_over; u8 failsafe_defer_state; bool "
            "gcs_connection_lost; u8 gcs_connection_lost_counter; bool high_latency_data_link_lost is_vtol "
            "is_vtol_tailsitter in_transition_mode in_transition_to_fw; u8 system_type system_id component_id; "
            "bool safety_button_available safety_off power_input_valid usb_connected open_drone_id_system_present "
            "open_drone_id_system_healthy parachute_system_present parachute_system_healthy "
            "avoidance_system_required avoidance_system_valid rc_calibration_in_progress calibration_enabled "
            "pre_flight_checks_pass",
        ),
        (
            "1.16",
            1,
            "u64 timestamp armed_time takeoff_time; u8 arming_state latest_arming_reason latest_disarming_reason; "
            "u64 nav_state_timestamp; u8 nav_state_user_intention nav_state executor_in_charge; u32 "
            "valid_nav_states_mask can_set_nav_states_mask; u16 failure_detector_status; u8 hil_state "
            "vehicle_type; bool failsafe failsafe_and_user_took_over; u8 failsafe_defer_state; bool "
            "gcs_connection_lost; u8 gcs_connection_lost_counter; bool high_latency_data_link_lost is_vtol "
            "is_vtol_tailsitter in_transition_mode in_transition_to_fw; u8 system_type system_id component_id; "
            "bool safety_button_available safety_off power_input_valid usb_connected open_drone_id_system_present "
            "open_drone_id_system_healthy parachute_system_present parachute_system_healthy "
            "rc_calibration_in_progress calibration_enabled pre_flight_checks_pass",
        ),
        (
            "1.18",
            4,
            "u64 timestamp armed_time takeoff_time; u8 arming_state latest_arming_reason latest_disarming_reason; "
            "u64 nav_state_timestamp; u8 nav_state_user_intention nav_state executor_in_charge nav_state_display; "
            "bool accepts_offboard_setpoints; u32 valid_nav_states_mask can_set_nav_states_mask; u8 hil_state "
            "vehicle_type; bool failsafe failsafe_and_user_took_over; u8 failsafe_defer_state; bool "
            "gcs_connection_lost; u8 gcs_connection_lost_counter; bool high_latency_data_link_lost is_vtol "
            "is_vtol_tailsitter in_transition_mode in_transition_to_fw; u8 system_type system_id component_id; "
            "bool safety_button_available safety_off power_input_valid usb_connected open_drone_id_system_present "
            "open_drone_id_system_healthy parachute_system_present parachute_system_healthy "
            "traffic_avoidance_system_present rc_calibration_in_progress calibration_enabled "
            "pre_flight_checks_pass",
        ),
    ),
    "BatteryStatus": (
        (
            "1.14",
            0,
            "u64 timestamp; bool connected; f32 voltage_v voltage_filtered_v current_a current_filtered_a "
            "current_average_a discharged_mah remaining scale time_remaining_s temperature; u8 cell_count source "
            "priority; u16 capacity cycle_count average_time_to_empty serial_number manufacture_date "
            "state_of_health max_error; u8 id; u16 interface_error; f32[14] voltage_cell_v; f32 "
            "max_cell_voltage_delta; bool is_powering_off is_required; u16 faults; u32 custom_faults; u8 warning "
            "mode; f32 average_power available_energy full_charge_capacity_wh remaining_capacity_wh "
            "design_capacity; u16 average_time_to_full over_discharge_count; f32 nominal_voltage",
        ),
        (
            "1.16",
            0,
            "u64 timestamp; bool connected; f32 voltage_v current_a current_average_a discharged_mah remaining "
            "scale time_remaining_s temperature; u8 cell_count source priority; u16 capacity cycle_count "
            "average_time_to_empty serial_number manufacture_date state_of_health max_error; u8 id; u16 "
            "interface_error; f32[14] voltage_cell_v; f32 max_cell_voltage_delta; bool is_powering_off "
            "is_required; u16 faults; u8 warning; f32 full_charge_capacity_wh remaining_capacity_wh; u16 "
            "over_discharge_count; f32 nominal_voltage internal_resistance_estimate ocv_estimate "
            "ocv_estimate_filtered volt_based_soc_estimate voltage_prediction prediction_error "
            "estimation_covariance_norm",
        ),
        (
            "1.17",
            1,
            "u64 timestamp; bool connected; f32 voltage_v current_a current_average_a discharged_mah remaining "
            "scale time_remaining_s temperature; u8 cell_count source priority; u16 capacity cycle_count "
            "average_time_to_empty manufacture_date state_of_health max_error; u8 id; u16 interface_error; "
            "f32[14] voltage_cell_v; f32 max_cell_voltage_delta; bool is_powering_off is_required; u8 warning; "
            "u16 faults; f32 full_charge_capacity_wh remaining_capacity_wh; u16 over_discharge_count; f32 "
            "nominal_voltage internal_resistance_estimate ocv_estimate ocv_estimate_filtered "
            "volt_based_soc_estimate voltage_prediction prediction_error estimation_covariance_norm",
        ),
    ),
    "VehicleLocalPosition": (
        (
            "1.14",
            0,
            "u64 timestamp timestamp_sample; bool xy_valid z_valid v_xy_valid v_z_valid; f32 x y z; f32[2] "
            "delta_xy; u8 xy_reset_counter; f32 delta_z; u8 z_reset_counter; f32 vx vy vz z_deriv; f32[2] "
            "delta_vxy; u8 vxy_reset_counter; f32 delta_vz; u8 vz_reset_counter; f32 ax ay az heading "
            "delta_heading; u8 heading_reset_counter; bool heading_good_for_control xy_global z_global; u64 "
            "ref_timestamp; f64 ref_lat ref_lon; f32 ref_alt dist_bottom; bool dist_bottom_valid; u8 "
            "dist_bottom_sensor_bitfield; f32 eph epv evh evv; bool dead_reckoning; f32 vxy_max vz_max hagl_min "
            "hagl_max",
        ),
        (
            "1.15",
            0,
            "u64 timestamp timestamp_sample; bool xy_valid z_valid v_xy_valid v_z_valid; f32 x y z; f32[2] "
            "delta_xy; u8 xy_reset_counter; f32 delta_z; u8 z_reset_counter; f32 vx vy vz z_deriv; f32[2] "
            "delta_vxy; u8 vxy_reset_counter; f32 delta_vz; u8 vz_reset_counter; f32 ax ay az heading heading_var "
            "unaided_heading delta_heading; u8 heading_reset_counter; bool heading_good_for_control; f32 "
            "tilt_var; bool xy_global z_global; u64 ref_timestamp; f64 ref_lat ref_lon; f32 ref_alt dist_bottom; "
            "bool dist_bottom_valid; u8 dist_bottom_sensor_bitfield; f32 eph epv evh evv; bool dead_reckoning; "
            "f32 vxy_max vz_max hagl_min hagl_max",
        ),
        (
            "1.16",
            0,
            "u64 timestamp timestamp_sample; bool xy_valid z_valid v_xy_valid v_z_valid; f32 x y z; f32[2] "
            "delta_xy; u8 xy_reset_counter; f32 delta_z; u8 z_reset_counter; f32 vx vy vz z_deriv; f32[2] "
            "delta_vxy; u8 vxy_reset_counter; f32 delta_vz; u8 vz_reset_counter; f32 ax ay az heading heading_var "
            "unaided_heading delta_heading; u8 heading_reset_counter; bool heading_good_for_control; f32 "
            "tilt_var; bool xy_global z_global; u64 ref_timestamp; f64 ref_lat ref_lon; f32 ref_alt; bool "
            "dist_bottom_valid; f32 dist_bottom dist_bottom_var delta_dist_bottom; u8 dist_bottom_reset_counter "
            "dist_bottom_sensor_bitfield; f32 eph epv evh evv; bool dead_reckoning; f32 vxy_max vz_max hagl_min "
            "hagl_max_z hagl_max_xy",
        ),
        ("1.17", 1, ""),
    ),
    "VehicleGlobalPosition": (
        (
            "1.14",
            0,
            "u64 timestamp timestamp_sample; f64 lat lon; f32 alt alt_ellipsoid delta_alt; u8 "
            "lat_lon_reset_counter alt_reset_counter; f32 eph epv terrain_alt; bool terrain_alt_valid "
            "dead_reckoning",
        ),
        (
            "1.16",
            0,
            "u64 timestamp timestamp_sample; f64 lat lon; f32 alt alt_ellipsoid; bool lat_lon_valid alt_valid; "
            "f32 delta_alt delta_terrain; u8 lat_lon_reset_counter alt_reset_counter terrain_reset_counter; f32 "
            "eph epv terrain_alt; bool terrain_alt_valid dead_reckoning",
        ),
    ),
    "VehicleAttitude": (
        (
            "1.14",
            0,
            "u64 timestamp timestamp_sample; f32[4] q delta_q_reset; u8 quat_reset_counter",
        ),
    ),
    "VehicleOdometry": (
        (
            "1.14",
            0,
            "u64 timestamp timestamp_sample; u8 pose_frame; f32[3] position; f32[4] q; u8 velocity_frame; f32[3] "
            "velocity angular_velocity position_variance orientation_variance velocity_variance; u8 "
            "reset_counter; i8 quality",
        ),
    ),
    "SensorCombined": (
        (
            "1.14",
            0,
            "u64 timestamp; f32[3] gyro_rad; u32 gyro_integral_dt; i32 accelerometer_timestamp_relative; f32[3] "
            "accelerometer_m_s2; u32 accelerometer_integral_dt; u8 accelerometer_clipping gyro_clipping "
            "accel_calibration_count gyro_calibration_count",
        ),
    ),
    "SensorGps": (
        (
            "1.14",
            0,
            "u64 timestamp timestamp_sample; u32 device_id; i32 lat lon alt alt_ellipsoid; f32 s_variance_m_s "
            "c_variance_rad; u8 fix_type; f32 eph epv hdop vdop; i32 noise_per_ms; u16 automatic_gain_control; u8 "
            "jamming_state; i32 jamming_indicator; u8 spoofing_state; f32 vel_m_s vel_n_m_s vel_e_m_s vel_d_m_s "
            "cog_rad; bool vel_ned_valid; i32 timestamp_time_relative; u64 time_utc_usec; u8 satellites_used; f32 "
            "heading heading_offset heading_accuracy rtcm_injection_rate; u8 selected_rtcm_instance",
        ),
        (
            "1.15",
            0,
            "u64 timestamp timestamp_sample; u32 device_id; f64 latitude_deg longitude_deg altitude_msl_m "
            "altitude_ellipsoid_m; f32 s_variance_m_s c_variance_rad; u8 fix_type; f32 eph epv hdop vdop; i32 "
            "noise_per_ms; u16 automatic_gain_control; u8 jamming_state; i32 jamming_indicator; u8 "
            "spoofing_state; f32 vel_m_s vel_n_m_s vel_e_m_s vel_d_m_s cog_rad; bool vel_ned_valid; i32 "
            "timestamp_time_relative; u64 time_utc_usec; u8 satellites_used; f32 heading heading_offset "
            "heading_accuracy rtcm_injection_rate; u8 selected_rtcm_instance; bool rtcm_crc_failed; u8 "
            "rtcm_msg_used",
        ),
        (
            "1.17",
            0,
            "u64 timestamp timestamp_sample; u32 device_id; f64 latitude_deg longitude_deg altitude_msl_m "
            "altitude_ellipsoid_m; f32 s_variance_m_s c_variance_rad; u8 fix_type; f32 eph epv hdop vdop; i32 "
            "noise_per_ms; u16 automatic_gain_control; u8 jamming_state; i32 jamming_indicator; u8 spoofing_state "
            "authentication_state; f32 vel_m_s vel_n_m_s vel_e_m_s vel_d_m_s cog_rad; bool vel_ned_valid; i32 "
            "timestamp_time_relative; u64 time_utc_usec; u8 satellites_used; u32 system_error; f32 heading "
            "heading_offset heading_accuracy rtcm_injection_rate; u8 selected_rtcm_instance; bool "
            "rtcm_crc_failed; u8 rtcm_msg_used",
        ),
        (
            "1.18",
            0,
            "u64 timestamp timestamp_sample; u32 device_id; f64 latitude_deg longitude_deg altitude_msl_m "
            "altitude_ellipsoid_m; f32 s_variance_m_s c_variance_rad; u8 fix_type; f32 eph epv hdop vdop; i32 "
            "noise_per_ms; u16 automatic_gain_control; u8 jamming_state; i32 jamming_indicator; u8 spoofing_state "
            "authentication_state; f32 vel_m_s vel_n_m_s vel_e_m_s vel_d_m_s cog_rad; bool vel_ned_valid; i32 "
            "timestamp_time_relative; u64 time_utc_usec; u8 satellites_used; u32 system_error; f32 heading "
            "heading_offset heading_accuracy rtcm_injection_rate; u8 selected_rtcm_instance; bool "
            "rtcm_crc_failed; u8 rtcm_msg_used; f32 antenna_offset_x antenna_offset_y antenna_offset_z",
        ),
    ),
    "ActuatorOutputs": (
        (
            "1.14",
            0,
            "u64 timestamp; u32 noutputs; f32[16] output",
        ),
    ),
    "HomePosition": (
        (
            "1.14",
            0,
            "u64 timestamp; f64 lat lon; f32 alt x y z yaw; bool valid_alt valid_hpos valid_lpos manual_home",
        ),
        (
            "1.15",
            0,
            "u64 timestamp; f64 lat lon; f32 alt x y z yaw; bool valid_alt valid_hpos valid_lpos manual_home; u32 "
            "update_count",
        ),
        (
            "1.17",
            1,
            "u64 timestamp; f64 lat lon; f32 alt x y z roll pitch yaw; bool valid_alt valid_hpos valid_lpos "
            "manual_home; u32 update_count",
        ),
    ),
    "VehicleLandDetected": (
        (
            "1.14",
            0,
            "u64 timestamp; bool freefall ground_contact maybe_landed landed in_ground_effect in_descend "
            "has_low_throttle vertical_movement horizontal_movement rotational_movement "
            "close_to_ground_or_skipped_check at_rest",
        ),
    ),
    "TrajectorySetpoint": (
        (
            "1.14",
            0,
            "u64 timestamp; f32[3] position velocity acceleration jerk; f32 yaw yawspeed",
        ),
    ),
    "OffboardControlMode": (
        (
            "1.14",
            0,
            "u64 timestamp; bool position velocity acceleration attitude body_rate actuator",
        ),
        (
            "1.15",
            0,
            "u64 timestamp; bool position velocity acceleration attitude body_rate thrust_and_torque direct_actuator",
        ),
    ),
    "VehicleAttitudeSetpoint": (
        (
            "1.14",
            0,
            "u64 timestamp; f32 roll_body pitch_body yaw_body yaw_sp_move_rate; f32[4] q_d; f32[3] thrust_body; "
            "bool reset_integral fw_control_yaw_wheel",
        ),
        (
            "1.16",
            0,
            "u64 timestamp; f32 yaw_sp_move_rate; f32[4] q_d; f32[3] thrust_body; bool reset_integral "
            "fw_control_yaw_wheel",
        ),
        (
            "1.17",
            1,
            "u64 timestamp; f32 yaw_sp_move_rate; f32[4] q_d; f32[3] thrust_body",
        ),
    ),
    "VehicleRatesSetpoint": (
        (
            "1.14",
            0,
            "u64 timestamp; f32 roll pitch yaw; f32[3] thrust_body; bool reset_integral",
        ),
    ),
    "ManualControlSetpoint": (
        (
            "1.14",
            0,
            "u64 timestamp timestamp_sample; bool valid; u8 data_source; f32 roll pitch yaw throttle flaps aux1 "
            "aux2 aux3 aux4 aux5 aux6; bool sticks_moving",
        ),
        (
            "1.15",
            0,
            "u64 timestamp timestamp_sample; bool valid; u8 data_source; f32 roll pitch yaw throttle flaps aux1 "
            "aux2 aux3 aux4 aux5 aux6; bool sticks_moving; u16 buttons",
        ),
    ),
}
