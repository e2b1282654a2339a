"""Prints which types of its arguments rclpy cannot use, with the cause; the exit code is 1 when there are any."""

import importlib
import sys

from rclpy.type_support import check_for_type_support

missing = []
for name in sys.argv[1:]:
    package, kind, rest = name.split("/")
    try:
        check_for_type_support(getattr(importlib.import_module(f"{package}.{kind}"), rest))
    except Exception as error:
        missing.append(f"{name}: {' '.join(str(error).split())}")
print(*missing, sep="\n")
sys.exit(bool(missing))
