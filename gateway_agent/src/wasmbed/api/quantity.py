"""Kubernetes quantities (`resource.Quantity`)."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from wasmbed.api.fields import ApiObjectError

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)
_SUFFIX = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """The value of a quantity such as ``64Mi``, ``100m``, ``1.5G`` or ``2e3``.

    Raises:
        ApiObjectError: it is not a quantity.
    """
    match = _FORM.fullmatch(text.strip()) if len(text) <= 64 else None
    if match is None:
        raise ApiObjectError(f"{text[:64]!r} is not a quantity; write for example 64Mi or 100m")
    number, exponent, suffix = match.groups()
    if exponent:
        return Decimal(number + exponent)
    return Decimal(number) * _SUFFIX.get(suffix or "", Decimal(1))


def quantity_bytes(text: str) -> int:
    """A quantity of bytes, rounded up to whole ones as the API does."""
    return int(parse_quantity(text).to_integral_value(ROUND_CEILING))


def quantity_millis(text: str) -> int:
    """A quantity in thousandths, rounded up to whole ones as the API does."""
    return int((parse_quantity(text) * 1000).to_integral_value(ROUND_CEILING))
