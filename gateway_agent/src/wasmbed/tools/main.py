"""The command `wasmbed`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import wasmbed
from wasmbed.api.fields import ApiObjectError
from wasmbed.api.quantity import quantity_bytes
from wasmbed.runtime import MAX_MODULE_BYTES, Limits
from wasmbed.runtime.profiles import CLASSES
from wasmbed.tools import binary, check, flash_file, interpreter, link_key, pack, provision, ros2, sensors, unseal


def _pack(arguments: argparse.Namespace) -> int:
    module: Path = arguments.module
    output: Path = arguments.output or module.with_suffix(".packed.wasm")
    wasm = check.read_module(module)
    if len(wasm) > MAX_MODULE_BYTES:
        raise binary.ModuleError(f"{module} has more than {MAX_MODULE_BYTES} bytes; is it a module?")
    packed = pack.pack(wasm, heap_base_bytes=arguments.heap_base)
    info = interpreter.info(packed.wasm)
    temporary = output.with_name(output.name + ".tmp")
    temporary.write_bytes(packed.wasm)
    temporary.replace(output)
    print(f"{output}: {len(packed.wasm)} bytes, was {len(wasm)}")
    for note in packed.notes:
        print(f"  {note}")
    print(pack.cost_table(info))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    options = ["--seconds", str(arguments.seconds), "--fuel", str(arguments.fuel)]
    for setting in arguments.env:
        options += ["--env", setting]
    for board in pack.BOARDS:
        if board.name == arguments.board:
            options += [
                "--stack",
                str(board.stack_bytes),
                "--ram",
                str(board.ram_bytes),
                "--flash",
                str(board.flash_bytes - pack.HEADER_BYTES),
            ]
    return interpreter.run(arguments.module, options)


def _check(arguments: argparse.Namespace) -> int:
    try:
        if arguments.manifest is not None:
            question = check.question_of_manifest(
                arguments.manifest, arguments.device_class, arguments.capability or check.CAPABILITIES
            )
        else:
            question = check.Question(arguments.device_class)
        question = question.with_options(
            Limits(arguments.memory, arguments.stack), arguments.grant, arguments.max_bytes
        )
        return check.run(arguments.module, question, as_json=arguments.json)
    except (check.CheckError, OSError) as error:
        print(f"wasmbed: {error}", file=sys.stderr)
        return 2


def _bytes(text: str) -> int:
    try:
        value = quantity_bytes(text)
    except ApiObjectError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than nothing")
    return value


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "check",
        help="say what the runtime would say of a module",
        description="Exit code 0: the module is accepted, 1: it is refused with every finding, 2: no verdict.",
    )
    command.add_argument("module", type=Path, metavar="FILE")
    command.add_argument("--class", dest="device_class", choices=CLASSES, default="gateway", help="default: gateway")
    command.add_argument("--manifest", type=Path, help="take limits and grants from this WasmApplication")
    command.add_argument("--memory", type=_bytes, metavar="SIZE", help="limit of the memory, such as 64Ki")
    command.add_argument("--stack", type=_bytes, metavar="SIZE", help="limit of the stack")
    command.add_argument("--grant", action="append", metavar="MODULE", help="one more import module, as wasmbed:px4")
    command.add_argument(
        "--capability",
        action="append",
        help="with --manifest: what the device has; default: px4 and sensors",
    )
    command.add_argument("--max-bytes", type=_bytes, metavar="SIZE", help="largest module the gateway takes; 8Mi")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(action=_check)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="wasmbed", description=__doc__)
    top.add_argument("--version", action="version", version=wasmbed.__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("pack", help="make a module small and print what it costs on each board")
    one.add_argument("module", type=Path)
    one.add_argument("-o", "--output", type=Path, help="default: MODULE.packed.wasm")
    one.add_argument("--heap-base", type=int, metavar="BYTES", help="where data and stack end, if not exported")
    one.set_defaults(action=_pack)

    two = commands.add_parser("run", help="run a module on this machine")
    two.add_argument("module", type=Path)
    two.add_argument("--interp", action="store_true", required=True, help="with the microcontrollers' interpreter")
    two.add_argument("--seconds", type=int, default=10, help="of its life, which pass at once; default: 10")
    two.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a value of spec.env; repeatable")
    two.add_argument("--fuel", type=int, default=100_000_000, help="for each call, in bytes of translated code")
    two.add_argument("--board", choices=[board.name for board in pack.BOARDS], help="with this board's limits")
    two.set_defaults(action=_run)
    _add_check(commands)
    provision.add_parser(commands)
    sensors.add_parser(commands)
    unseal.add_parser(commands)
    link_key.add_parser(commands)
    ros2.add_parser(commands)
    return top


def main() -> None:
    """Entry point of the console script."""
    arguments = parser().parse_args()
    try:
        code: int = arguments.action(arguments)
    except (
        binary.ModuleError,
        interpreter.InterpreterError,
        flash_file.FlashError,
        link_key.LinkKeyError,
        OSError,
    ) as error:
        print(f"wasmbed: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
