"""The section `secure` of agent.yaml: the key that applications' keys are derived of, and where sealed messages go."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MIB = 1024 * 1024


@dataclass(frozen=True)
class UplinkConfig:
    """The server of the cloud, asked by HTTPS with a client certificate (PEM files).

    It is asked for messages every `poll_s` seconds, and told at once what there is to tell. The spool takes up to
    `max_spool_bytes`, of one application a quarter of them; what it has taken it keeps until the server has it.
    """

    url: str
    ca_file: Path
    certificate: Path
    key: Path
    poll_s: float = 30.0
    timeout_s: float = 30.0
    max_spool_bytes: int = 64 * MIB
    max_retry_s: float = 300.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ValueError(f"url must be https://HOST[:PORT]/PATH, not {self.url!r}")
        if not 0.1 <= self.poll_s <= 86_400 or not 0.1 <= self.timeout_s <= 600 or not 0.1 <= self.max_retry_s <= 3600:
            raise ValueError("poll_s must be 0.1 to 86400, timeout_s 0.1 to 600 and max_retry_s 0.1 to 3600 seconds")
        if not MIB <= self.max_spool_bytes <= 1 << 40:
            raise ValueError("max_spool_bytes must be at least 1048576")


@dataclass(frozen=True)
class SecureConfig:
    """`key_file` holds 32 bytes in base64 and belongs to the agent alone; without `uplink` nothing can be sent."""

    key_file: Path
    uplink: UplinkConfig | None = None
