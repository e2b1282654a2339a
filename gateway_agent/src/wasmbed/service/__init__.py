"""What every Wasmbed service needs: configuration, logs, health, metrics, systemd and a clean start and end."""

from wasmbed.service.config import ConfigError, load_config, parse_config
from wasmbed.service.http import Health, serve_http
from wasmbed.service.logs import journal_send, setup_logging
from wasmbed.service.process import describe_failure, run
from wasmbed.service.systemd import notify, watchdog

__all__ = [
    "ConfigError",
    "Health",
    "describe_failure",
    "journal_send",
    "load_config",
    "notify",
    "parse_config",
    "run",
    "serve_http",
    "setup_logging",
    "watchdog",
]
