"""Types of ROS 2: definitions, type hashes, codecs, validation, conversion for applications."""

from wasmbed.bridges.ros2.types.classes import Value
from wasmbed.bridges.ros2.types.codec import Codec, CodecFactory
from wasmbed.bridges.ros2.types.model import Action, Constant, Field, FieldType, Message, Service
from wasmbed.bridges.ros2.types.parser import parse
from wasmbed.bridges.ros2.types.plain import Plain
from wasmbed.bridges.ros2.types.rihs import type_hash
from wasmbed.bridges.ros2.types.store import TypeStore
from wasmbed.bridges.ros2.types.tables import DISTRIBUTIONS, PX4_RELEASES
from wasmbed.bridges.ros2.types.validate import Validator

__all__ = [
    "DISTRIBUTIONS",
    "PX4_RELEASES",
    "Action",
    "Codec",
    "CodecFactory",
    "Constant",
    "Field",
    "FieldType",
    "Message",
    "Plain",
    "Service",
    "TypeStore",
    "Validator",
    "Value",
    "parse",
    "type_hash",
]
