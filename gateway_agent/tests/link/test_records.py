"""Records of the link that differ from the runtime's."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from wasmbed.link import records, smp


def request(**changes: Any) -> dict[Any, Any]:
    return {1: "i", 2: "px4", 3: "param_set", 4: 7, 5: ["MPC_XY_VEL_MAX"], 6: struct.pack("<d", 4.5), **changes}


def test_value_of_a_parameter_arrives_as_a_number() -> None:
    found = records.host_request(request(), "i", "default/app", "default/dev")
    assert (found.op, found.args, found.data) == ("param_set", ("MPC_XY_VEL_MAX", 4.5), None)


@pytest.mark.parametrize("data", [None, b"", bytes(7), bytes(9)])
def test_parameter_without_a_value_is_refused(data: bytes | None) -> None:
    with pytest.raises(smp.SmpError, match="eight bytes"):
        records.host_request({**request(), 6: data}, "i", "default/app", "default/dev")


def test_data_of_other_requests_stays_as_it_is() -> None:
    found = records.host_request({**request(), 3: "command", 5: [], 6: bytes(48)}, "i", "default/app", "default/dev")
    assert (found.args, found.data) == ((), bytes(48))


def test_update_that_was_taken_back_is_told_by_its_key() -> None:
    state = {0: "i", 1: 0, 2: 0, 3: "update failed: unreachable; sha256:000000000000 runs again", 4: 1}
    assert records.state_event(state, "i").rolled_back == ""
    assert records.state_event({**state, 5: b"\xab" * 32}, "i").rolled_back == "ab" * 32
    row = {2: bytes(32), 3: 1, 4: 0, 5: "", 6: 0, 7: bytes(32), 8: 1, 9: 0, 10: 0, 11: 0}
    assert records.status_from(row, "i").previous == ""
    assert records.status_from({**row, 13: b"\xab" * 32}, "i").previous == "ab" * 32
    with pytest.raises(smp.SmpError):
        records.status_from({**row, 13: b"short"}, "i")
