"""A device's simulated sensors: samples of a vehicle that flies circles, over the machine's second serial port."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from wasmbed.tools.sensors import frames

if TYPE_CHECKING:
    from pathlib import Path

RETRY_S: Final = 1.0
# A sensor does not save up samples: what is later than this is not made up for.
LATEST_S: Final = 0.25


async def feed(socket: Path, rate: float) -> None:
    """Feed the port behind QEMU's socket until cancelled, from take-off again when the machine was started anew.

    rate scales how often samples come, 1 as often as the sensors' own rates (100, 25, 5 and 1 Hz).
    """
    clock = asyncio.get_running_loop().time
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            gone = asyncio.ensure_future(reader.read(1))
            try:
                began = clock()
                for at_s, frame in frames(rate):
                    if (late_s := clock() - began - at_s) > LATEST_S:
                        began += late_s
                    await asyncio.wait([gone], timeout=max(0.0, began + at_s - clock()))
                    if gone.done():
                        break
                    writer.write(frame)
                    await writer.drain()
            finally:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
                # QEMU has one place at its end; samples that it does not take must not keep it.
                writer.transport.abort()
        await asyncio.sleep(RETRY_S)
