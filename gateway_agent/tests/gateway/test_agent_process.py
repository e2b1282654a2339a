"""The process: its configuration and its command line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from wasmbed import __version__
from wasmbed.gateway.config import AgentConfig
from wasmbed.service import ConfigError, load_config

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
gateway: gw1
kubeconfig: /etc/wasmbed/agent.kubeconfig
state_directory: /var/lib/wasmbed-agent
runtime_socket: /run/wasmbed-runtime/runtime.sock
http: {address: 127.0.0.1, port: 9080}
registry:
  mirrors: {registry.wasmbed.io: "registry.wasmbed.local:5000"}
  ca_file: /etc/wasmbed/pki/site-ca.crt
  credentials_file: /etc/wasmbed/agent-registry.json
lease: {duration_s: 40, renew_s: 10}
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wasmbed.gateway.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def test_the_configuration_of_the_role_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(CONFIG)
    config = load_config(path, AgentConfig)
    assert (config.gateway, config.http.port, config.lease.duration_s) == ("gw1", 9080, 40)
    assert config.registry.mirrors == {"registry.wasmbed.io": "registry.wasmbed.local:5000"}


def test_a_lease_that_could_expire_between_renewals_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(CONFIG.replace("duration_s: 40", "duration_s: 15"))
    with pytest.raises(ConfigError, match=r"lease: duration_s must be at least twice renew_s"):
        load_config(path, AgentConfig)


def test_version_and_a_missing_configuration() -> None:
    assert run("--version").stdout == f"wasmbed-agent {__version__}\n"
    done = run("--config", "/nonexistent/agent.yaml")
    assert done.returncode == 1
    assert done.stderr == (
        "wasmbed-agent: /nonexistent/agent.yaml: cannot be read: No such file or directory; "
        "create it or pass --config\n"
    )


def test_a_kubeconfig_that_cannot_be_used_is_told_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(f"gateway: g\nkubeconfig: {tmp_path}/none\nstate_directory: {tmp_path}/state\n")
    done = run("--config", str(path))
    assert done.returncode == 1
    assert "cannot use kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr
