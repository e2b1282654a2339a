"""Configuration files: what is read, and what every mistake is told as."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from wasmbed.service import ConfigError, load_config


@dataclass(frozen=True)
class Http:
    address: str
    port: int = 9080

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {self.port}")


@dataclass(frozen=True)
class Example:
    name: str
    http: Http
    state: Path = Path("/var/lib/x")
    ca_file: Path | None = None
    ratio: float = 0.5
    mode: Literal["shared", "dedicated"] = "shared"
    mirrors: dict[str, str] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    enabled: bool = False


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    return path


def test_nested_fields_and_defaults_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: a\nhttp: {address: 127.0.0.1}\nca_file: /etc/ca.crt\nratio: 2\nmirrors: {r.io: l:5000}\npeers: [x, y]\n",
    )
    assert load_config(path, Example) == Example(
        name="a",
        http=Http("127.0.0.1", 9080),
        ca_file=Path("/etc/ca.crt"),
        ratio=2.0,
        mirrors={"r.io": "l:5000"},
        peers=("x", "y"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: {address: a}", "field name is missing; add it"),
        ("name: a\nhttp: {}", "field http.address is missing; add it"),
        ("name: a\nhttp: {address: a, prt: 1}", "unknown field http.prt; remove it or use one of: address, port"),
        ("name: a\nhttp: {address: a, port: '1'}", "http.port must be a whole number, not '1'"),
        ("name: a\nhttp: {address: a, port: yes}", "http.port must be a whole number, not True"),
        ("name: a\nhttp: {address: a, port: 70000}", "http: port must be 0 to 65535, not 70000"),
        ("name: 1\nhttp: {address: a}", "name must be a text, not 1"),
        ("name:\nhttp: {address: a}", "name must be a text, not empty"),
        ("name: a\nhttp: [1]", "http must be a mapping of fields"),
        ("name: a\nhttp: {address: a}\nmode: other", "mode must be one of shared, dedicated, not 'other'"),
        ("name: a\nhttp: {address: a}\nmirrors: {a: 1}", "mirrors.a must be a text, not 1"),
        ("name: a\nhttp: {address: a}\npeers: [1]", "peers[0] must be a text, not 1"),
        ("name: a\nhttp: {address: a}\nenabled: 1", "enabled must be true or false, not 1"),
        ("name: a\nname: b\nhttp: {address: a}", "field 'name' is there twice; remove one"),
        ("- a", "the file must be a mapping of fields"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("#" * 70000, "larger than 65536 bytes"),
    ],
)
def test_a_mistake_is_named_with_file_field_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, Example)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_told_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file.*create it or pass --config"):
        load_config(tmp_path / "none.yaml", Example)


def test_parts_add_fields_each_from_one_file_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nhttp: {address: b}\n")
    parts = tmp_path / "example.d"
    assert load_config(path, Example, parts=parts).enabled is False, "the folder may be absent"
    parts.mkdir()
    (parts / "one.yaml").write_text("enabled: true\n")
    (parts / "two.txt").write_text("not: read")
    assert load_config(path, Example, parts=parts).enabled is True
    (parts / "two.yaml").write_text("enabled: false\n")
    with pytest.raises(ConfigError, match=r"two\.yaml: field enabled is in another file too; remove one"):
        load_config(path, Example, parts=parts)
    (parts / "two.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match=r"two\.yaml: must be a mapping of fields"):
        load_config(path, Example, parts=parts)
