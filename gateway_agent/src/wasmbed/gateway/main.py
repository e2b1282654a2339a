"""The process wasmbed-agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wasmbed import __version__
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.gateway.agent import serve
from wasmbed.gateway.config import AgentConfig
from wasmbed.service import ConfigError, load_config, run, setup_logging


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("wasmbed-agent", description="Runs the applications placed on a Wasmbed gateway.")
    parser.add_argument("--config", type=Path, default=Path("/etc/wasmbed/agent.yaml"), help="default: %(default)s")
    parser.add_argument("--version", action="version", version=f"wasmbed-agent {__version__}")
    arguments = parser.parse_args()
    setup_logging("wasmbed-agent")
    try:
        config = load_config(arguments.config, AgentConfig, parts=arguments.config.with_suffix(".d"))
    except ConfigError as error:
        sys.exit(f"wasmbed-agent: {error}")
    if config.mavlink is not None:
        # Its tables are large: they belong to what `run` takes out of garbage collection.
        default_dialect()
    run(lambda: serve(config))


if __name__ == "__main__":
    main()
