"""The operator's routes in the section `ros2`: what is refused, and what an application is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from wasmbed.gateway.config import AgentConfig
from wasmbed.gateway.ros2_routes import MAX_CONFIGURED, place_of
from wasmbed.service.config import ConfigError, load_config

if TYPE_CHECKING:
    from pathlib import Path

ALARM = {"topic": "/alarm", "type": "std_msgs/String", "direction": "publish"}


def load(tmp_path: Path, *routes: dict[str, Any]) -> AgentConfig:
    path = tmp_path / "agent.yaml"
    path.write_text(yaml.safe_dump({"gateway": "g", "kubeconfig": "/k", "ros2": {"routes": list(routes)}}))
    return load_config(path, AgentConfig)


def test_routes_are_read_as_they_are_written(tmp_path: Path) -> None:
    config = load(tmp_path, {"applications": ["default/*"], "topics": [ALARM | {"qos": {"depth": 3}}]})
    assert config.ros2 is not None
    (found,) = config.ros2.routes
    assert (found.applications, found.count()) == (("default/*",), 1)
    assert found.topics[0] == ALARM | {"qos": {"depth": 3}}


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ({"topics": [ALARM]}, r"ros2\.routes\[0\]\.applications is missing"),
        ({"applications": []}, "applications must have a pattern"),
        ({"applications": ["shock"]}, "'shock' must be a pattern of namespace/name"),
        (
            {"applications": ["*/*"], "topics": [{**ALARM, "direction": "call"}]},
            r"topics\[0\]\.direction must be one of",
        ),
        ({"applications": ["*/*"], "topics": [{"service": "/x"}]}, r"topics\[0\]: topic, and name"),
        ({"applications": ["*/*"], "topics": [{**ALARM, "name": "no name"}]}, r"topics\[0\]: topic, and name"),
        ({"applications": ["*/*"], "topics": ["/alarm"]}, r"topics\[0\] must be a mapping"),
        ({"applications": ["*/*"], "topics": [ALARM] * (MAX_CONFIGURED + 1)}, f"routes must be {MAX_CONFIGURED}"),
    ],
)
def test_wrong_routes_end_the_start_with_their_field(tmp_path: Path, routes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, routes)


def test_problem_is_told_where_the_route_is_written() -> None:
    ros2 = {"topics": [{"topic": "/own"}, {"topic": "/theirs"}], "configured": {"topics": 1}}
    assert place_of("topics[0].type: wrong", ros2) == "communication.ros2.topics[0].type: wrong"
    theirs = "ros2.routes of the gateway's configuration, topics /theirs.type: wrong"
    assert place_of("topics[1].type: wrong", ros2) == theirs
    assert place_of("domainId: 3 is not", ros2) == "communication.ros2.domainId: 3 is not"
