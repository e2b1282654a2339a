"""The parser of interface definitions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.bridges.ros2.errors import DefinitionError, UnknownTypeError
from wasmbed.bridges.ros2.types import Action, FieldType, Message, Service, TypeStore, parse
from wasmbed.bridges.ros2.types.parser import MAX_MEMBERS, MAX_TEXT
from wasmbed.bridges.ros2.types.render import render, schema
from wasmbed.bridges.ros2.types.store import read_packages

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = """
# A comment
bool   flag true
int8 small -0x80   # hexadecimal
uint64 large 18446744073709551615
float32 ratio 1.5e-3
string name "Hello # \\"you\\"" # a comment with 'quotes'
string bare some words
wstring wide 'ö'
string<=5 short
string<=5[<=3] few ["a", "b,c"]
float64[9] matrix
uint8[] data
int32[3] triple [1, -2, 3]
geometry_msgs/Point[<=2] points
Other other
int32 LIMIT=7
string GREETING="it's # not a comment"
char LETTER = 65
"""


def test_every_construct_is_read() -> None:
    message = parse("pkg/msg/All", EVERYTHING)
    assert isinstance(message, Message)
    fields = {field.name: field for field in message.fields}
    assert fields["flag"].default is True
    assert fields["small"].default == -128
    assert fields["large"].default == 2**64 - 1
    assert fields["ratio"].default == pytest.approx(0.0015)
    assert fields["name"].default == 'Hello # "you"'
    assert fields["bare"].default == "some words"
    assert fields["wide"].default == "ö"
    assert fields["short"].type == FieldType("string", 5)
    assert fields["few"].type == FieldType("string", 5, "sequence", 3)
    assert fields["few"].default == ("a", "b,c")
    assert fields["matrix"].type == FieldType("float64", 0, "array", 9)
    assert fields["data"].type == FieldType("uint8", 0, "sequence", 0)
    assert fields["triple"].default == (1, -2, 3)
    assert fields["points"].type == FieldType("geometry_msgs/msg/Point", 0, "sequence", 2)
    assert fields["other"].type.base == "pkg/msg/Other"
    assert message.constant("LIMIT") == 7
    assert message.constant("GREETING") == "it's # not a comment"
    assert message.constant("LETTER") == 65


def test_what_is_rendered_is_read_as_the_same() -> None:
    message = parse("pkg/msg/All", EVERYTHING)
    assert parse("pkg/msg/All", render(message)) == message


def test_services_and_actions_have_their_sections() -> None:
    service = parse("pkg/srv/Set", "bool data\n---\nbool success\nstring message\n")
    assert isinstance(service, Service)
    assert service.request.name == "pkg/srv/Set_Request"
    assert [field.name for field in service.response.fields] == ["success", "message"]
    action = parse("pkg/action/Go", "---\n---\nfloat32 done\n")
    assert isinstance(action, Action)
    assert not action.goal.fields
    assert action.feedback.fields[0].name == "done"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int32", "1: '' does not begin with a name"),
        ("int32 1st", "does not begin with a name"),
        ("int32 a\nint64 a", "2: a is defined twice"),
        ("int8 a 128", "128 is not within -128 to 127"),
        ("bool a maybe", "'maybe' is not a bool"),
        ("int32[2] a [1]", "1 default values for 2 elements"),
        ("int32[<=1] a [1, 2]", "the bound is 1"),
        ("int32[] a 1, 2", "must be in brackets"),
        ("int32[0] a", "a size must be 1"),
        ("int32[<=] a", "a size must be 1"),
        ("int32[99999999] a", "a size must be 1"),
        ("int32<=5 a", "only a string has a bound"),
        ('string<=2 a "abc"', "longer than 2"),
        ('string a "abc', "the quote is not closed"),
        ("Point a 1", "no default value"),
        ("Point A=1", "a constant cannot be of type"),
        ("a/b/c/d e", "is not a type"),
        ("Pkg/Type e", "not the name of an interface"),
        ("---", "2 sections"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=r"^pkg/msg/Bad:") as caught:
        parse("pkg/msg/Bad", text)
    assert message in str(caught.value)


def test_sizes_are_limited() -> None:
    with pytest.raises(DefinitionError, match="longer than"):
        parse("pkg/msg/Long", "#" * (MAX_TEXT + 1))
    with pytest.raises(DefinitionError, match="more than"):
        parse("pkg/msg/Many", "\n".join(f"bool f{number}" for number in range(MAX_MEMBERS + 1)))


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        message = parse("pkg/msg/Any", text)
    except DefinitionError:
        return
    assert parse("pkg/msg/Any", render(message)) == message


@given(st.lists(st.sampled_from(EVERYTHING.split()), max_size=40).map(" ".join))
def test_parts_of_definitions_in_any_order_are_read_or_refused(text: str) -> None:
    for name in ("pkg/msg/Any", "pkg/srv/Any", "pkg/action/Any"):
        with contextlib.suppress(DefinitionError):
            parse(name, text)


def test_packages_on_disk_are_found(tmp_path: Path) -> None:
    package = tmp_path / "src/my_folder"
    (package / "msg").mkdir(parents=True)
    (package / "srv").mkdir()
    (package / "package.xml").write_text("<package><name>my_pkg</name></package>")
    (package / "msg/Alarm.msg").write_text("std_msgs/Header header\nstring<=20 text\n")
    (package / "srv/Reset.srv").write_text("---\nbool ok\n")
    store = TypeStore.of("jazzy", packages=[tmp_path])
    assert "my_pkg/msg/Alarm" in store
    assert store.service("my_pkg/srv/Reset").response.fields[0].name == "ok"
    assert "std_msgs/msg/Header" in store.closure("my_pkg/msg/Alarm")
    assert "MSG: builtin_interfaces/Time" in schema(store, "my_pkg/msg/Alarm")


def test_what_colcon_made_of_packages_is_no_definition(tmp_path: Path) -> None:
    """An installed copy counted instead of the definition when its folder came later."""
    for folder in ("a_msgs", "install/share/a_msgs"):
        (tmp_path / folder / "msg").mkdir(parents=True)
    (tmp_path / "install/COLCON_IGNORE").touch()
    (tmp_path / "a_msgs/msg/A.msg").write_text("bool new\n")
    (tmp_path / "install/share/a_msgs/msg/A.msg").write_text("bool old\n")
    assert read_packages(tmp_path) == {"a_msgs/msg/A": "bool new\n"}
    assert read_packages(tmp_path / "install") == {"a_msgs/msg/A": "bool old\n"}


def test_folders_without_definitions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no \\.msg"):
        read_packages(tmp_path)
    (tmp_path / "pkg/msg").mkdir(parents=True)
    (tmp_path / "pkg/msg/Bad.msg").write_bytes(b"\xff\xfe")
    with pytest.raises(DefinitionError, match=r"Bad\.msg"):
        read_packages(tmp_path)


def test_cycles_and_unknown_types_are_refused() -> None:
    store = TypeStore({"a/msg/A": "B b\n", "a/msg/B": "A[] a\n", "a/msg/C": "D d\n"})
    with pytest.raises(DefinitionError, match="contains itself"):
        store.closure("a/msg/A")
    with pytest.raises(UnknownTypeError, match="a/msg/D"):
        store.closure("a/msg/C")
