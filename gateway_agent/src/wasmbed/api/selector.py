"""Label selectors (`metav1.LabelSelector`) and their textual form for API requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wasmbed.api.fields import ApiObjectError, Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


@dataclass(frozen=True)
class Requirement:
    """One requirement of ``matchExpressions``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet it; NotIn is met by a label that is not there, as in Kubernetes."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values if self.key in labels else False
            case "NotIn":
                return self.key not in labels or labels[self.key] not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True)
class LabelSelector:
    """Labels that must be equal and requirements that must hold; an empty one matches everything."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> LabelSelector:
        """Read a selector.

        Raises:
            ApiObjectError: an operator is unknown.
        """
        requirements = []
        for item in fields.children("matchExpressions"):
            operator = item.text("operator")
            if operator not in _OPERATORS:
                raise ApiObjectError(f"selector operator {operator!r} must be one of {', '.join(_OPERATORS)}")
            requirements.append(Requirement(item.text("key"), operator, item.texts("values")))
        return cls(fields.text_map("matchLabels"), tuple(requirements))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with `labels` is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )
