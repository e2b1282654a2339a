"""`wasmbed check`: what the runtime would say of a module, on a developer's desk and with the runtime's own code."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from wasmbed.api import ApiObjectError, WasmApplication
from wasmbed.controller.placements import grants_for
from wasmbed.runtime import MAX_MODULE_BYTES, Limits, abi, validate
from wasmbed.runtime.compile import CompileError, CompilerFailedError, compile_module, describe_module
from wasmbed.runtime.profiles import CLASSES
from wasmbed.tools import interpreter, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.validate import Facts

# What a gateway takes unless its Gateway object says otherwise.
MAX_ARTIFACT_BYTES: Final = 8 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 256 * 1024
# Every application has these.
COMMON_GRANTS: Final = (abi.SYS, abi.SECURE)

# What a device is taken to have when a manifest is checked for none in particular.
CAPABILITIES: Final = ("px4", "sensor")


class CheckError(Exception):
    """No verdict could be reached; the message says why."""


@dataclass(frozen=True)
class Question:
    """For what a module is checked."""

    device_class: str
    limits: Limits = field(default_factory=Limits)
    grants: tuple[str, ...] = COMMON_GRANTS
    max_bytes: int = MAX_ARTIFACT_BYTES

    def with_options(self, limits: Limits, grants: list[str] | None, max_bytes: int | None) -> Question:
        """Return the question with the command line's options, which go first."""
        return Question(
            self.device_class,
            Limits(
                limits.memory_bytes or self.limits.memory_bytes,
                limits.stack_bytes or self.limits.stack_bytes,
                self.limits.cpu_ms_per_call,
            ),
            (*self.grants, *(grants or ())),
            max_bytes or self.max_bytes,
        )

    @property
    def profile(self) -> Profile:
        return CLASSES[self.device_class].lowered(self.limits)


@dataclass
class Report:
    """The verdict: accepted when there is no finding. notes are for people and change nothing."""

    file: str
    device_class: str
    size_bytes: int
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    features: list[str] = field(default_factory=list)
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    data_bytes: int = 0
    compiled_bytes: int | None = None
    interpreter: dict[str, Any] | None = None

    @property
    def accepted(self) -> bool:
        return not self.findings

    def to_json(self) -> str:
        return json.dumps({"accepted": self.accepted, **asdict(self)}, indent=2)

    def to_text(self) -> str:
        count = len(self.findings)
        verdict = "accepted" if self.accepted else f"refused, {count} finding{'s' if count > 1 else ''}"
        lines = [f"{self.file}: {verdict} for class {self.device_class}"]
        lines += [f"  - {finding}" for finding in self.findings]
        by_module: dict[str, list[str]] = {}
        for name in self.imports:
            module, _, function = name.rpartition(".")
            by_module.setdefault(module, []).append(function)
        shown = "; ".join(f"{module} {', '.join(sorted(names))}" for module, names in sorted(by_module.items()))
        lines.append(
            f"  {self.size_bytes:,} bytes, {len(self.imports)} imports{f' ({shown})' if shown else ''}, memory "
            f"{self.memory_bytes:,} of {self.memory_limit_bytes:,} bytes, data {self.data_bytes:,} bytes"
            + (f", compiled {self.compiled_bytes:,} bytes" if self.compiled_bytes is not None else "")
        )
        if self.features:
            lines.append(f"  uses {', '.join(self.features)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def read_module(path: Path) -> bytes:
    """Read a file, of a larger one only so much that it is known to be too large; raises OSError."""
    with path.open("rb") as file:
        return file.read(MAX_MODULE_BYTES + 1)


def question_of_manifest(path: Path, device_class: str, capabilities: Sequence[str]) -> Question:
    """Take limits and grants from a WasmApplication as the controller does; raises CheckError."""
    with path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise CheckError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes; is it a manifest?")
    try:
        objects = [item for item in yaml.safe_load_all(data) if item]
        found = [item for item in objects if isinstance(item, dict) and item.get("kind") == "WasmApplication"]
        if len(found) != 1:
            raise CheckError(f"{path}: has {len(found)} objects of kind WasmApplication; give a file with one")
        application = WasmApplication.from_dict(found[0])
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise CheckError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ApiObjectError as error:
        raise CheckError(f"{path}: {error}") from error
    memory = [value for value in (application.memory_limit, application.max_memory) if value is not None]
    limits = Limits(min(memory, default=None), application.max_stack, application.max_cpu_millis_per_call)
    return Question(device_class, limits, grants_for(application, capabilities))


async def check(path: Path, question: Question) -> Report:
    """Check a module as the runtime of this class would; raises CheckError and OSError."""
    module = read_module(path)
    profile = question.profile
    report = Report(str(path), question.device_class, len(module), memory_limit_bytes=profile.memory_bytes)
    if len(module) > question.max_bytes:
        size = f"more than {MAX_MODULE_BYTES}" if len(module) > MAX_MODULE_BYTES else str(len(module))
        report.findings.append(
            f"the module has {size} bytes, more than the {question.max_bytes} allowed; make it smaller or raise "
            "maxArtifactBytes of the gateway"
        )
        if len(module) > MAX_MODULE_BYTES:
            return report
    try:
        facts = await describe_module(module)
    except CompileError as error:
        report.findings += error.findings
        return report
    except CompilerFailedError as error:
        raise CheckError(str(error)) from error
    _describe(report, facts)
    report.findings += validate.start_findings(facts, profile, question.grants)
    if question.device_class in abi.SMALL_CLASSES:
        _interpret(report, module)
    elif report.accepted:
        await _compile(report, module)
    return report


def _describe(report: Report, facts: Facts) -> None:
    report.imports = [f"{item.module[:64]}.{item.name[:64]}" for item in facts.imports]
    report.features = [use.feature for use in facts.uses]
    report.memory_bytes, report.data_bytes = facts.memory_bytes, facts.data_bytes


async def _compile(report: Report, module: bytes) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wasmbed-check-") as folder:
        try:
            await compile_module(module, Path(folder), "module")
        except CompileError as error:
            report.findings += error.findings
            return
        except CompilerFailedError as error:
            raise CheckError(str(error)) from error
        report.compiled_bytes = (Path(folder) / "module.cwasm").stat().st_size
    report.notes.append(f"compiled in {time.monotonic() - began:.1f} s")


def _interpret(report: Report, module: bytes) -> None:
    """Ask the microcontrollers' own loader, where there is one."""
    try:
        info = interpreter.info(module)
    except interpreter.MissingError as error:
        report.notes.append(f"not tried with the microcontrollers' interpreter: {error}")
        return
    except interpreter.InterpreterError as error:
        report.findings.append(f"the microcontrollers' interpreter: {error}")
        return
    report.interpreter = asdict(info)
    for cost in pack.costs(info):
        if cost.over and cost.board.device_class == report.device_class:
            report.findings.append(f"{cost.board.name} has not room for it: {', '.join(cost.over)}")
        report.notes.append(
            f"{cost.board.name}: {'fits' if cost.fits else 'does not fit'}; flash {cost.flash_bytes:,} of "
            f"{cost.board.flash_bytes:,}, RAM {cost.ram_bytes:,} of {cost.board.ram_bytes:,}, largest frame "
            f"{info.largest_frame_bytes:,} of {cost.board.stack_bytes:,} bytes"
        )


def run(path: Path, question: Question, *, as_json: bool) -> int:
    """Check, print the report and return the exit code: 0 accepted, 1 refused."""
    report = asyncio.run(check(path, question))
    print(report.to_json() if as_json else report.to_text())
    return 0 if report.accepted else 1
