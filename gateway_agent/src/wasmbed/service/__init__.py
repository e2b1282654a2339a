"""What every Wasmbed service needs: configuration, logs, health, metrics, systemd and a clean start and end."""

from wasmbed.service.config import ConfigError, load_config
from wasmbed.service.database import open_database
from wasmbed.service.http import Health, HttpConfig, serve_http
from wasmbed.service.logs import journal_send, setup_logging
from wasmbed.service.process import describe_failure, run
from wasmbed.service.systemd import notify, watchdog

__all__ = [
    "ConfigError",
    "Health",
    "HttpConfig",
    "describe_failure",
    "journal_send",
    "load_config",
    "notify",
    "open_database",
    "run",
    "serve_http",
    "setup_logging",
    "watchdog",
]
