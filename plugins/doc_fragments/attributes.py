# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What modules do in check mode, in diff mode, and when run again."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of modules; the parts are used together."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode).
  idempotent:
    description: Running the module twice gives the same result.
"""

    FULL = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: The module only reads.
  diff_mode:
    support: N/A
    details: The module only reads.
  idempotent:
    support: full
    details: The module only reads.
"""

    EDGE_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/wasmbed.edge.edge) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - wasmbed.edge.edge
"""

    REGISTRY_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/wasmbed.edge.registry) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - wasmbed.edge.registry
"""

    MAVLINK_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/wasmbed.edge.mavlink) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - wasmbed.edge.mavlink
"""
