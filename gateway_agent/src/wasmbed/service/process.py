"""Running a service's coroutine as a process."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvloop

from wasmbed.service.systemd import notify

_log = logging.getLogger(__name__)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on uvloop until it ends; SIGTERM and SIGINT cancel it and the process ends with 0.

    A failure is logged as one line (its traceback at DEBUG) and ends the process with 1.
    """
    exempt_from_collection()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(main))
    except Exception as error:  # the process ends here; every failure must become one line
        _log.critical("%s", describe_failure(error))
        _log.debug("traceback", exc_info=error)
        sys.exit(1)


def exempt_from_collection() -> None:
    """Take what is there now, modules and tables, out of garbage collection for good.

    A full collection stops the process for some 60 ms when it has to look at all of it, again and again.
    """
    gc.collect()
    gc.freeze()


async def _until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    signalled = False

    def stop(number: int) -> None:
        nonlocal signalled
        signalled = True
        _log.info("stopping signal=%s", signal.Signals(number).name)
        notify("STOPPING=1")
        task.cancel()

    task = loop.create_task(main(), name="main")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise


def describe_failure(error: BaseException) -> str:
    """The causes of `error`, exception groups taken apart, repeated ones once: `text; text`."""
    return "; ".join(dict.fromkeys(str(leaf) or type(leaf).__name__ for leaf in _leaves(error)))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
