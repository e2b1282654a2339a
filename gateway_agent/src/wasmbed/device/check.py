"""`wasmbed-device --check`: what keeps this device from its gateway, step by step."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wasmbed.device.uplink import connect, greet
from wasmbed.link import tls
from wasmbed.link.channel import ChannelClosed
from wasmbed.link.messages import MessageError, Refused

if TYPE_CHECKING:
    from wasmbed.device.config import DeviceConfig

MAX_CERTIFICATE_BYTES = 256 * 1024


class CheckError(Exception):
    """A step failed; the message says why and what to do."""


async def check(config: DeviceConfig) -> bool:
    """Print each step and whether it works; returns whether all do. A session that the device has stays."""
    try:
        _step("certificate", _certificate(config))
        _step("gateway", await _gateway(config))
    except CheckError as error:
        print(f"FAILED  {error}")
        return False
    return True


def _step(name: str, text: str) -> None:
    print(f"ok      {name}: {text}")


def _certificate(config: DeviceConfig) -> str:
    try:
        with config.certificate.open("rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read(MAX_CERTIFICATE_BYTES))
        identity = tls.identity_of(certificate.public_bytes(Encoding.DER))
    except OSError as error:
        raise CheckError(
            f"certificate: {config.certificate}: {error.strerror}; run the role mpu_device, or this command as root "
            "while wasmbed-device runs"
        ) from error
    except (ValueError, tls.IdentityError) as error:
        raise CheckError(f"certificate: {config.certificate}: {error}; have it made anew") from error
    if str(identity) != config.device:
        raise CheckError(
            f"certificate: {config.certificate} is of {identity}, and the device is {config.device}; have it made anew"
        )
    now = datetime.datetime.now(datetime.UTC)
    # cryptography before 42 has only naive times.
    begin = certificate.not_valid_before_utc
    end = certificate.not_valid_after_utc
    if not begin <= now <= end:
        raise CheckError(
            f"certificate: it is valid from {begin:%F %T} to {end:%F %T} UTC and now it is {now:%F %T}; renew it, or "
            "set the clock right"
        )
    return f"{identity}, key {identity.public_key}, valid until {end:%F}"


async def _gateway(config: DeviceConfig) -> str:
    try:
        channel = await connect(config)
    except tls.TlsFilesError as error:
        raise CheckError(f"certificate: {error}") from error
    except (OSError, EOFError) as error:
        raise CheckError(f"gateway: {config.gateway}: {tls.explain(error)}") from error
    try:
        welcome = await greet(channel, "check", check=True)
    except Refused as error:
        raise CheckError(f"gateway: {config.gateway} refuses this device: {error.message} ({error.reason})") from error
    except (ChannelClosed, MessageError) as error:
        raise CheckError(f"gateway: {config.gateway}: {error}") from error
    finally:
        channel.close("checked")
    return f"{config.gateway} is {welcome.gateway} (wasmbed {welcome.wasmbed}) and accepts this device"


def run_check(config: DeviceConfig) -> bool:
    """`check` in a loop of its own."""
    return asyncio.run(check(config))
