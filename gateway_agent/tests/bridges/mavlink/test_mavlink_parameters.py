"""Parameters: encodings, reading, writing, listing, files and the cache."""

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import BAD, CLEAN, IDS, Network, World
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.frames import FrameParser, decode_frame, make_frame
from wasmbed.bridges.mavlink.parameter_files import (
    MAX_FILE_BYTES,
    Difference,
    ParameterCache,
    differences,
    parse_cache,
    parse_file,
    write_file,
)
from wasmbed.bridges.mavlink.parameter_values import (
    FLOAT,
    INT32,
    Encoding,
    Parameter,
    decode_value,
    encode_value,
    encoding_of,
    px4_hash,
    same,
    single,
)
from wasmbed.bridges.mavlink.parameters import (
    ListParameters,
    ParameterList,
    ParameterOutcome,
    ReadHash,
    ReadParameter,
    WriteParameter,
)
from wasmbed_sitl import SimulatedVehicle

BYTES, CAST = Encoding.BYTEWISE, Encoding.C_CAST


@given(st.integers(-(2**31), 2**31 - 1))
@settings(deadline=None)
def test_every_integer_survives_px4s_encoding_on_the_wire(value: int) -> None:
    """An integer whose bytes are a signalling NaN changes when it passes through a Python float."""
    definition = default_dialect()["PARAM_SET"]
    fields = {"param_value": encode_value(value, INT32, BYTES), "param_id": "X", "param_type": INT32}
    (frame,) = FrameParser().feed(make_frame(definition, fields, system=1, component=1, sequence=0))
    item = decode_frame(frame)
    assert item is not None
    assert decode_value(item["param_value"], INT32, BYTES) == value


def test_an_integer_that_is_a_signalling_nan_survives() -> None:
    assert decode_value(encode_value(-5_000_000, INT32, BYTES), INT32, BYTES) == -5_000_000


@given(st.floats(width=32, allow_nan=False), st.sampled_from([BYTES, CAST]))
@settings(deadline=None)
def test_floats_are_the_same_in_both_encodings(value: float, encoding: Encoding) -> None:
    assert encode_value(value, FLOAT, encoding) == struct.pack("<f", value)
    assert decode_value(encode_value(value, FLOAT, encoding), FLOAT, encoding) == value


@given(st.integers(-(2**24), 2**24))
@settings(deadline=None)
def test_integers_are_cast_for_ardupilot(value: int) -> None:
    wire = encode_value(value, INT32, CAST)
    assert wire == struct.pack("<f", value)
    assert decode_value(wire, INT32, CAST) == value


@pytest.mark.parametrize(
    ("value", "kind", "encoding"),
    [
        (16777217, INT32, CAST),
        (2**31, INT32, BYTES),
        (1.5, INT32, BYTES),
        (256, 1, CAST),
        (1e39, FLOAT, BYTES),
        (1, 8, BYTES),
    ],
)
def test_a_value_that_would_arrive_as_another_is_refused(value: float, kind: int, encoding: Encoding) -> None:
    with pytest.raises(ValueError, match=r"whole|sent exactly|too large|cannot travel"):
        encode_value(value, kind, encoding)


def test_the_encoding_is_told_by_the_capability_or_the_autopilot() -> None:
    assert encoding_of(12, None) is BYTES
    assert encoding_of(3, None) is CAST
    assert encoding_of(3, 16) is BYTES
    assert encoding_of(12, 131072) is CAST
    assert encoding_of(12, 0) is BYTES


@given(st.binary(min_size=4, max_size=4), st.integers(0, 12), st.sampled_from([BYTES, CAST]))
@settings(deadline=None)
def test_any_bytes_are_decoded_or_refused(wire: bytes, kind: int, encoding: Encoding) -> None:
    try:
        decode_value(wire, kind, encoding)
    except ValueError:
        return


def world_of(autopilot: str, network: Network = CLEAN, seed: int = 0) -> World:
    return World(network, seed, SimulatedVehicle(autopilot=autopilot))


@pytest.mark.parametrize(("autopilot", "encoding"), [("px4", BYTES), ("ardupilot", CAST)])
def test_a_list_is_read_completely(autopilot: str, encoding: Encoding) -> None:
    world = world_of(autopilot)
    seen: list[tuple[int, int]] = []
    found = world.drive(ListParameters(IDS, encoding, lambda count, here: seen.append((count, here))))
    assert found.ok
    assert {name: (item.value, item.type) for name, item in found.parameters.items()} == world.vehicle.parameters.values
    assert seen[-1] == (len(found.parameters),) * 2
    assert (found.hash is not None) == (autopilot == "px4")


@given(st.integers(0, 2**32), st.sampled_from([("px4", BYTES), ("ardupilot", CAST)]))
@settings(max_examples=60, deadline=None)
def test_a_list_on_a_bad_network_is_right_or_said_to_be_incomplete(seed: int, kind: tuple[str, Encoding]) -> None:
    world = world_of(kind[0], BAD, seed)
    found = world.drive(ListParameters(IDS, kind[1]))
    real = world.vehicle.parameters.values
    for name, item in found.parameters.items():
        assert (item.value, item.type) == real[name]
    assert found.ok == (len(found.parameters) == len(real))
    if not found.ok:
        assert found.missing or found.outcome is ParameterOutcome.NO_ANSWER


def test_a_reboot_in_the_middle_of_a_list_ends_in_a_whole_list() -> None:
    world = world_of("px4", Network(loss=0.3), 3)
    operation = ListParameters(IDS, BYTES)
    operation.start(world.now)
    world.on_message.append(operation.receive)
    for item in operation.take():
        world.send(item)
    world.run(0.1)
    del world.vehicle.parameters.values["TEST_000"]
    world.vehicle.power_on(world.now)
    found = world.drive(operation)
    assert found.ok
    assert set(found.parameters) == set(world.vehicle.parameters.values)


@given(st.integers(0, 2**32), st.sampled_from([("px4", BYTES), ("ardupilot", CAST)]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_write_on_a_bad_network_tells_what_the_vehicle_has(
    seed: int, kind: tuple[str, Encoding], silent: bool
) -> None:
    world = world_of(kind[0], BAD, seed)
    world.vehicle.parameters.silent = silent
    result = world.drive(WriteParameter(IDS, "SYS_AUTOSTART", 1234, INT32, kind[1]))
    if result.outcome is ParameterOutcome.DONE:
        assert world.vehicle.parameters.values["SYS_AUTOSTART"] == (1234, INT32)
        assert result.parameter is not None
    elif result.outcome is ParameterOutcome.REFUSED:
        assert result.parameter is not None
        assert result.parameter.value == 4001
    assert {name for name, _ in world.vehicle.parameters.writes} <= {"SYS_AUTOSTART"}


def test_writes_on_a_bad_network_succeed_nearly_always() -> None:
    def write(seed: int) -> bool:
        return bool(world_of("px4", BAD, seed).drive(WriteParameter(IDS, "SYS_AUTOSTART", 1234, INT32, BYTES)).ok)

    assert sum(write(seed) for seed in range(200)) >= 198


def test_a_refused_value_is_told_with_what_stays() -> None:
    world = world_of("px4")
    result = world.drive(WriteParameter(IDS, "COM_OBL_RC_ACT", 99, INT32, BYTES))
    assert result.outcome is ParameterOutcome.REFUSED
    assert str(result) == "parameter COM_OBL_RC_ACT: refused, it stays 0"


def test_an_old_value_on_its_way_is_not_taken_for_a_refusal() -> None:
    world = world_of("px4")
    operation = WriteParameter(IDS, "SYS_AUTOSTART", 7, INT32, BYTES)
    operation.start(world.now)
    for _ in range(3):
        name, fields = world.vehicle.parameters.show("SYS_AUTOSTART")
        world._back([(name, fields)])
    world.on_message.append(operation.receive)
    assert world.drive(operation).ok


def test_an_unknown_parameter_is_told() -> None:
    world = world_of("px4")
    assert world.drive(ReadParameter(IDS, "NO_SUCH", BYTES)).outcome is ParameterOutcome.UNKNOWN
    assert world.drive(WriteParameter(IDS, "NO_SUCH", 1, INT32, BYTES)).outcome is ParameterOutcome.UNKNOWN
    with pytest.raises(ValueError, match="1 to 16"):
        ReadParameter(IDS, "X" * 17, BYTES)


def test_nobody_answers() -> None:
    world = world_of("px4", Network(loss=1.0))
    assert world.drive(ReadParameter(IDS, "SYS_AUTOSTART", BYTES)).outcome is ParameterOutcome.NO_ANSWER
    assert world.drive(WriteParameter(IDS, "SYS_AUTOSTART", 1, INT32, BYTES)).outcome is ParameterOutcome.NO_ANSWER
    assert world.drive(ListParameters(IDS, BYTES)).outcome is ParameterOutcome.NO_ANSWER
    assert world.drive(ReadHash(IDS)) == -1


def test_the_hash_is_px4s_and_guards_the_cache(tmp_path: Path) -> None:
    world = world_of("px4")
    complete = world.drive(ListParameters(IDS, BYTES))
    assert complete.hash == world.drive(ReadHash(IDS)) == px4_hash(complete.parameters.values())
    cache = ParameterCache(tmp_path)
    cache.store("vehicle-1", complete)
    assert cache.load("vehicle-1", complete.hash) == complete.parameters
    world.drive(WriteParameter(IDS, "SYS_AUTOSTART", 5, INT32, BYTES))
    changed = world.drive(ReadHash(IDS))
    assert changed != complete.hash
    assert cache.load("vehicle-1", changed) is None
    assert cache.load("vehicle-2", changed) is None
    (tmp_path / "vehicle-1.parameters.json").write_text("{")
    assert cache.load("vehicle-1", complete.hash) is None
    with pytest.raises(ValueError, match="cannot name"):
        cache.store("../x", complete)


def test_an_incomplete_list_is_not_cached(tmp_path: Path) -> None:
    ParameterCache(tmp_path).store("v", ParameterList({}, 1, (3,), ParameterOutcome.INCOMPLETE))
    assert not list(tmp_path.iterdir())


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,14}", fullmatch=True),
        st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-(2**31), 2**31 - 1)),
        max_size=20,
    )
)
@settings(deadline=None)
def test_a_file_that_is_written_and_read_has_the_same_values(values: dict[str, float]) -> None:
    present = {
        name: Parameter(name, value, FLOAT if isinstance(value, float) else INT32) for name, value in values.items()
    }
    wanted = parse_file(write_file(present, 1))
    assert differences(wanted, present) == []
    assert len(wanted) == len(present)


def test_both_kinds_of_files_are_read_and_compared() -> None:
    text = "# comment\nA_FLOAT 1.5\nB_INT,3\n1\t1\tC_INT\t-7\t6\n"
    wanted = parse_file(text)
    assert [(item.name, item.value, item.type) for item in wanted] == [
        ("A_FLOAT", 1.5, None),
        ("B_INT", 3, None),
        ("C_INT", -7, 6),
    ]
    present = {"A_FLOAT": Parameter("A_FLOAT", single(1.5), FLOAT), "B_INT": Parameter("B_INT", 4, INT32)}
    assert differences(wanted, present) == [Difference("B_INT", 4, 3), Difference("C_INT", None, -7)]
    assert same(0.1, single(0.1), FLOAT)


@pytest.mark.parametrize(
    ("text", "line"),
    [("A 1\nA 2", "line 2"), ("A", "line 1"), ("A x", "line 1"), ("X" * 17 + " 1", "line 1"), ("A nan", "line 1")],
)
def test_a_file_with_a_mistake_names_the_line(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        parse_file(text)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_is_a_parameter_file_or_is_refused(text: str) -> None:
    try:
        for item in parse_file(text):
            assert math.isfinite(item.value)
    except ValueError:
        return


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_any_bytes_are_a_cache_or_are_refused(data: bytes) -> None:
    assert len(data) < MAX_FILE_BYTES
    try:
        parse_cache(data, 0)
    except (ValueError, RecursionError):
        return
