"""The controller: from WasmApplications, EdgeDevices and Gateways to Placements, DeviceSlices and statuses."""
