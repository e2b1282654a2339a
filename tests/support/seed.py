"""The two manifests of the platform's description, word for word."""

from __future__ import annotations

SEED_APPLICATION = """
apiVersion: wasmbed.io/v1
kind: WasmApplication
metadata:
  name: drone-monitoring-app
spec:
  wasmImage: "registry.wasmbed.io/monitoring:v1.0.0"
  targetDevices:
    - deviceType: "drone"
      selector:
        matchLabels:
          drone-type: "quadcopter"
  resources:
    limits:
      memory: "64Mi"
      cpu: "100m"
  runtime:
    type: "wasmtime"
    config:
      maxMemory: 67108864  # 64MB
  communication:
    ros2:
      enabled: true
      domainId: 0
    px4:
      enabled: true
      systemId: 1
      componentId: 1
"""
SEED_DEVICE = """
apiVersion: wasmbed.io/v1
kind: EdgeDevice
metadata:
  name: drone-alpha-001
spec:
  deviceType: "drone"
  hardware:
    cpu: "arm64"
    memory: "512Mi"
    storage: "8Gi"
  capabilities:
    - "px4"
    - "camera"
    - "gps"
  location:
    coordinates: [45.4642, 9.1900]
  network:
    gatewayEndpoint: "gateway.wasmbed.local:8080"
"""
