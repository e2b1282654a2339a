"""Definitions in IDL: read as what they were made of, or refused with their line."""

from __future__ import annotations

import contextlib
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ros2_support import DISTRIBUTIONS, message_of, rclpy_python
from wasmbed.bridges.ros2.errors import DefinitionError
from wasmbed.bridges.ros2.types import CodecFactory, Plain, TypeStore
from wasmbed.bridges.ros2.types.idl import to_text
from wasmbed.bridges.ros2.types.parser import MAX_TEXT, parse
from wasmbed.bridges.ros2.types.rihs import type_hash

if TYPE_CHECKING:
    from pathlib import Path

IDL = r"""
#include "std_msgs/msg/Header.idl"
/* Two
   lines */
module pkg {
  module msg {
    typedef double double__9[9];
    typedef sequence<float, 4> few;
    module All_Constants {
      const uint8 LIMIT = 0x10;
      const int16 LOW = -7;
      const long OCTAL = 017;
      const float HALF = 5e-1f;
      const boolean ON = TRUE;
      const string GREETING = "it's \"" "one\x21";
    };
    struct Inner { octet one; }; // before it is used
    @verbatim (language="comment", text=
      "Says; what { it" "\n" "is")
    struct All {
      std_msgs::msg::Header header;
      Inner inner;
      @unit (value="m/s")
      float speed;
      @default (value=7)
      unsigned long count;
      @default (value="(1, -2, 3)")
      short triple[3];
      @default (value="('a', 'b,c')")
      sequence<string> names;
      string<5> bounded;
      wstring<4> wide;
      sequence<wstring<3>, 2> wides;
      double__9 covariance;
      few values;
      unsigned long long stamp;
      @default (value=TRUE)
      boolean flag;
    };
  };
};
"""
MSG = """
uint8 LIMIT=16
int16 LOW=-7
int32 OCTAL=15
float32 HALF=0.5
bool ON=true
string GREETING='it\\'s "one!'
std_msgs/Header header
Inner inner
float32 speed
uint32 count 7
int16[3] triple [1, -2, 3]
string[] names ['a', 'b,c']
string<=5 bounded
wstring<=4 wide
wstring<=3[<=2] wides
float64[9] covariance
float32[<=4] values
uint64 stamp
bool flag true
"""
AROUND = "module pkg {{ module msg {{ {} }}; }};"


def test_every_construct_is_read() -> None:
    assert parse("pkg/msg/All", to_text("pkg/msg/All", IDL)) == parse("pkg/msg/All", MSG)
    assert to_text("pkg/msg/Inner", IDL) == "byte one\n"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_files_of_an_installation_are_what_they_were_made_of(distribution: str) -> None:
    """ROS makes an .idl of each .msg, .srv and .action; an .idl has no char, which is another name of uint8."""
    python = rclpy_python(distribution)
    if python is None:
        pytest.skip(f"no rclpy: set WASMBED_ROS2_{distribution.upper()} to an interpreter that has it")
    count = 0
    for file in (python.parents[1] / "share").glob("*/*/*.idl"):
        source = file.with_suffix(f".{file.parent.name}")
        if source.exists():
            name = f"{file.parts[-3]}/{file.parent.name}/{file.stem}"
            found, wanted = parse(name, to_text(name, file.read_text())), parse(name, source.read_text())
            assert repr(found) == re.sub("'char'", "'uint8'", repr(wanted))
            count += 1
    assert count > 150


def test_services_actions_and_empty_structures_are_read() -> None:
    parts = "struct Go_{} {{ uint8 structure_needs_at_least_one_member; }};"
    idl = "module pkg {{ module {} {{ {} }}; }};"
    service = idl.format("srv", parts.format("Request") + "struct Go_Response { boolean ok; };")
    assert to_text("pkg/srv/Go", service) == "---\nbool ok\n"
    action = idl.format("action", "struct Go_Goal { long n; };" + parts.format("Result") + parts.format("Feedback"))
    assert to_text("pkg/action/Go", action) == "int32 n\n---\n---\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("struct Bad { @key long id; };", "1: @key is not supported"),
        ("@final struct Bad { long id; };", "@final is not supported"),
        ("enum Bad { A };", "'enum' is not supported"),
        ("struct Bad { char c; };", "char is not supported"),
        ("struct Bad { long double d; };", "long double is not supported"),
        ("struct Bad : Other { long d; };", "inheritance is not supported"),
        ("struct Bad { long a[2][3]; };", "an array of arrays"),
        ("struct Bad { sequence<sequence<long>> a; };", "a sequence of sequences"),
        ("struct Bad { long a[0]; };", "a size of 1 to"),
        ("struct Bad { string<99999999999> a; };", "a size of 1 to"),
        ("struct Bad {\n long a\n};", "3: ; is expected, not '}'"),
        ("struct Bad { long a; ", "is expected"),
        ("struct Other { long a; };", "there is no struct pkg::msg::Bad"),
        ("struct Bad { @default (value=70000) short a; };", "70000 is not within"),
        ("struct Bad { @default (value=TRUE) short a; };", "True is not of type int16"),
        ('struct Bad { @default (value="(1,") short a[2]; };', "is not a list of values"),
        ('struct Bad { @default (value="(1, 2, 3)") short a[2]; };', "3 default values for 2 elements"),
        ("module Bad_Constants { const long A = 1 + 2; }; struct Bad { long a; };", "is not IDL"),
        ("struct Bad { long a; long a; };", "a is defined twice"),
        ("struct Bad { long a; }; }", "is expected"),
        ("struct Bad { long é; };", "is not IDL"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=r"^pkg/msg/Bad:\d+: ") as caught:
        to_text("pkg/msg/Bad", AROUND.format(text))
    assert says in str(caught.value)


def test_sizes_are_limited() -> None:
    with pytest.raises(DefinitionError, match="longer than"):
        to_text("pkg/msg/Long", " " * (MAX_TEXT + 1))
    with pytest.raises(DefinitionError, match="nested deeper"):
        to_text("pkg/msg/Deep", "module a { " * 50_000)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DefinitionError):
        to_text("pkg/msg/Any", text)


@given(st.lists(st.sampled_from(re.findall(r"\w+|\S", IDL)), max_size=40).map(" ".join))
def test_parts_of_definitions_in_any_order_are_read_or_refused(text: str) -> None:
    for name in ("pkg/msg/All", "pkg/srv/All"):
        with contextlib.suppress(DefinitionError):
            to_text(name, text)
            to_text(name, AROUND.format(text))


@pytest.mark.parametrize("suffix", ["msg", "idl"])
def test_constants_defaults_bounds_and_wide_strings_of_your_packages_hold(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "pkg/msg").mkdir(parents=True)
    (tmp_path / f"pkg/msg/All.{suffix}").write_text(MSG if suffix == "msg" else IDL)
    (tmp_path / "pkg/msg/Inner.msg").write_text("byte one\n")
    codecs = CodecFactory(TypeStore.of("jazzy", packages=[tmp_path]))
    codec: Any = codecs.codec("pkg/msg/All")
    message = codec.cls()
    assert (message.count, tuple(message.triple), list(message.names)) == (7, (1, -2, 3), ["a", "b,c"])
    assert codecs.message("pkg/msg/All").constant("LIMIT") == 16
    for seed in range(20):
        filled = message_of(codecs, "pkg/msg/All", random.Random(seed))
        filled.wide, filled.wides = "wïdé", ["ハロー"]
        assert codec.loads(codec.dumps(filled)) == filled
    plain = Plain(codecs, "pkg/msg/All")
    for wrong in (
        '{"bounded": "123456"}',
        '{"wide": "12345"}',
        '{"wides": ["1", "2", "3"]}',
        '{"values": [1,2,3,4,5]}',
    ):
        with pytest.raises(Exception, match=r"bounded|wide|values"):
            plain.from_json(wrong.encode())
    assert type_hash(codecs.store, "pkg/msg/All").startswith("RIHS01_")


def test_the_source_is_taken_instead_of_what_was_made_of_it(tmp_path: Path) -> None:
    (tmp_path / "pkg/msg").mkdir(parents=True)
    (tmp_path / "pkg/msg/One.msg").write_text("int8 source\n")
    (tmp_path / "pkg/msg/One.idl").write_text("not read")
    (tmp_path / "pkg/msg/Two.idl").write_text(AROUND.format("struct Two { pkg::msg::One one; };"))
    store = TypeStore.of("jazzy", packages=[tmp_path])
    assert store.message("pkg/msg/One").fields[0].name == "source"
    assert set(store.closure("pkg/msg/Two")) == {"pkg/msg/Two", "pkg/msg/One"}
