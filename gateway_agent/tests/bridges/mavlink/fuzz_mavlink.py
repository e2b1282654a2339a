"""Atheris targets for everything of the bridge that reads bytes from outside.

python fuzz_mavlink.py TARGET [libFuzzer options, such as -max_total_time=60]
"""

import sys
from collections.abc import Callable
from typing import Any

import atheris

with atheris.instrument_imports(include=["wasmbed"]):
    from wasmbed.bridges.mavlink.codec import Message, decode, encode
    from wasmbed.bridges.mavlink.commands import Command, CommandRun
    from wasmbed.bridges.mavlink.component_info import MetadataError, parse_metadata, sources
    from wasmbed.bridges.mavlink.definitions import default_dialect
    from wasmbed.bridges.mavlink.endpoints import parse_address
    from wasmbed.bridges.mavlink.events import EventReceiver, StatusTexts
    from wasmbed.bridges.mavlink.frames import FrameParser, decode_frame
    from wasmbed.bridges.mavlink.ftp_files import ListFiles, ReadFile, WriteFile
    from wasmbed.bridges.mavlink.keystore import parse_state
    from wasmbed.bridges.mavlink.mission_items import PlanItem, PlanType, parse_waypoints
    from wasmbed.bridges.mavlink.missions import ClearPlan, DownloadPlan, UploadPlan
    from wasmbed.bridges.mavlink.operations import Ids
    from wasmbed.bridges.mavlink.parameter_files import parse_cache, parse_file
    from wasmbed.bridges.mavlink.parameter_values import Encoding
    from wasmbed.bridges.mavlink.parameters import ListParameters, ReadParameter, WriteParameter
    from wasmbed.bridges.mavlink.px4 import FromPx4, ToPx4, definitions
    from wasmbed.bridges.mavlink.px4.messages import from_cdr, to_cdr
    from wasmbed.bridges.mavlink.routing import PortPolicy
    from wasmbed.bridges.mavlink.switch import PortOptions, Switch
    from wasmbed.bridges.mavlink.timesync import Timesync
    from wasmbed.bridges.mavlink.tlog import read_tlog
    from wasmbed.bridges.mavlink.vehicle_state import Position, VehicleMonitor, VehicleState
    from wasmbed.gateway.px4_codec import RecordError, command_of, plan_of, record_of, setpoint_of
    from wasmbed.runtime import abi

IDS = Ids(245, 191, 1, 0)
DIALECT = default_dialect()
MESSAGES = sorted(DIALECT.messages.values(), key=lambda item: item.id)


def frames(data: bytes) -> None:
    """Bytes of a link: cut anywhere they give the same frames, and what is decoded can be encoded."""
    whole = [frame.raw for frame in FrameParser().feed(data)]
    for frame in FrameParser(datagrams=True).feed(data):
        item = decode_frame(frame)
        if item is not None and frame.definition is not None:
            encode(frame.definition, item.values)
    parser = FrameParser()
    cut = len(data) // 2
    parts = [frame.raw for frame in parser.feed(data[:cut]) + parser.feed(data[cut:])]
    # An unknown message at the end of a part passes for want of a checksum, so only known ones are compared.
    if parser.counts.unknown_messages == 0 and parts != whole:
        raise AssertionError("cutting the stream changed the frames")


def switch(data: bytes) -> None:
    """Bytes into a switch with two ports and a component: forwarded frames are pieces of the input."""
    out: list[bytes] = []
    made = Switch(clock=lambda: 1.0, wall_clock=lambda: 1.0)
    first = made.open(PortOptions(PortPolicy("a")), "a", lambda _: True)
    made.open(PortOptions(PortPolicy("b")), "b", lambda raw: not out.append(raw))
    made.open_local(245, 191, lambda _: None)
    made.receive(first, data)
    if any(raw not in data for raw in out):
        raise AssertionError("the switch changed a frame")


def messages(data: bytes) -> None:
    """Any messages, whatever their values, into every state machine."""
    provider = atheris.FuzzedDataProvider(data)
    items = [PlanItem(16, 3), PlanItem(20)]
    operations: list[Any] = [
        CommandRun(IDS, Command(400, (1.0,))),
        ReadParameter(IDS, "A", Encoding.BYTEWISE),
        WriteParameter(IDS, "A", 1, 6, Encoding.C_CAST),
        ListParameters(IDS, Encoding.C_CAST),
        UploadPlan(IDS, items),
        DownloadPlan(IDS),
        ClearPlan(IDS),
    ]
    texts, events = StatusTexts(1, lambda _: None), EventReceiver(IDS, lambda _: None)
    monitor, sync, bridge = (
        VehicleMonitor(IDS),
        Timesync(IDS),
        ToPx4(provider.PickValueInList(["1.14", "1.16", "1.18"])),
    )
    now = 0.0
    for operation in operations:
        operation.start(now)
    for _ in range(20):
        definition = provider.PickValueInList(MESSAGES)
        item = Message(definition.name, decode(definition, provider.ConsumeBytes(definition.full_bytes)), 1, 1)
        now += provider.ConsumeIntInRange(0, 3000) / 1000
        for operation in operations:
            operation.receive(item, now)
            operation.advance(now)
            for sent in operation.take():
                encode(DIALECT[sent.name], sent.values)
        monitor.receive(item, now)
        texts.receive(item, now)
        events.receive(item, now)
        texts.advance(now)
        events.advance(now)
        sync.receive(item, int(now * 1e9))
        for sent in (*events.take(), *sync.take()):
            encode(DIALECT[sent.name], sent.values)
        for made in bridge.receive(item, int(now * 1e6)):
            to_cdr(made)


def cdr(data: bytes) -> None:
    """Bytes of a DDS sample: read or refused, and what is read can be written and sent."""
    if not data:
        return
    release = ("1.14", "1.15", "1.16", "1.17", "1.18")[data[0] % 5]
    kinds = list(definitions(release).values())
    definition = kinds[data[0] // 5 % len(kinds)]
    payload = b"\x00\x01\x00\x00" + data[1:].ljust(definition.packer.size, b"\0")[: definition.packer.size]
    item = from_cdr(definition, payload)
    to_cdr(item)
    bridge = FromPx4(IDS)
    modes = definitions("1.16")["OffboardControlMode"].make({"position": True, "attitude": True, "body_rate": True})
    bridge.receive(modes, 0)
    for sent in bridge.receive(item, 0):
        encode(DIALECT[sent.name], sent.values)
    try:
        from_cdr(definition, data)
    except ValueError:
        return


def tlog(data: bytes) -> None:
    """A telemetry log."""
    for _ in read_tlog(data):
        pass


def refusing(*parsers: Callable[[str], object]) -> Callable[[bytes], None]:
    """A target for parsers of text that may refuse with ValueError and nothing else."""

    def target(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for parser in parsers:
            try:
                parser(text)
            except ValueError:
                continue

    return target


def state(text: str) -> None:
    """JSON files: the signing state and the parameter cache."""
    try:
        parse_state(text.encode())
    except RecursionError:
        return
    parse_cache(text.encode(), 0)


def ftp(data: bytes) -> None:
    """A file server's answers, and metadata files."""
    operations = (
        ReadFile(IDS, "/a.json", max_bytes=4096),
        ReadFile(IDS, "/a.json", max_bytes=4096, resume=data[:9]),
        WriteFile(IDS, "/a.json", data, resume=len(data) // 2),
        ListFiles(IDS, "/"),
    )
    operation = operations[data[0] % 4 if data else 0]
    operation.start(0.0)
    for at in range(0, len(data), 40):
        operation.take()
        answer = bytearray(data[at : at + 40].ljust(251, b"\0"))
        request = operation._request
        if request is not None and data[at] & 1:
            # Often enough an answer that fits, so that more than the first check is reached.
            answer[:2] = ((request.sequence + 1) & 0xFFFF).to_bytes(2, "little")
            answer[3], answer[5] = 128 + (data[at] >> 7), int(request.opcode)
        operation.receive(Message("FILE_TRANSFER_PROTOCOL", {"payload": tuple(answer)}, 1, 1), at / 100)
        operation.advance(at / 100)
    try:
        sources(parse_metadata(data))
    except MetadataError:
        return


def records(data: bytes) -> None:
    """Records of applications: what is not refused can be sent; telemetry of any values can be told."""
    home = Position(47.4, 8.5, 488.0, 0.0)
    for state in (VehicleState(), VehicleState(home=home, autopilot=3), VehicleState(position=home, autopilot=12)):
        try:
            run = CommandRun(IDS, command_of(data[: abi.COMMAND.size].ljust(abi.COMMAND.size, b"\0"), state))
            run.start(0.0)
            for item in run.take():
                encode(DIALECT[item.name], item.values)
        except RecordError:
            pass
    try:
        item = setpoint_of(data[: abi.SETPOINT.size].ljust(abi.SETPOINT.size, b"\0")).message(1)
        encode(DIALECT[item.name], item.values)
    except RecordError:
        pass
    count = len(data) // abi.WAYPOINT.size
    try:
        for number, planned in enumerate(plan_of(data[: count * abi.WAYPOINT.size], count)):
            encode(DIALECT["MISSION_ITEM_INT"], planned.values(number, PlanType.MISSION, number == 0))
    except RecordError:
        pass
    for name in ("GLOBAL_POSITION_INT", "LOCAL_POSITION_NED", "ATTITUDE", "ATTITUDE_QUATERNION", "BATTERY_STATUS"):
        record_of(Message(name, decode(DIALECT[name], data), 1, 1), 1)
    record_of(Message("GPS_RAW_INT", decode(DIALECT["GPS_RAW_INT"], data), 1, 1), 1)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "switch": switch,
    "messages": messages,
    "cdr": cdr,
    "tlog": tlog,
    "files": refusing(parse_file, parse_waypoints, lambda text: parse_waypoints("QGC WPL 110\n" + text), parse_address),
    "state": refusing(state),
    "ftp": ftp,
    "records": records,
}


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
