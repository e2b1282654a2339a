"""The command `wasmbed`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import wasmbed
from wasmbed.tools import binary, flash_file, interpreter, pack, provision


def _pack(arguments: argparse.Namespace) -> int:
    module: Path = arguments.module
    output: Path = arguments.output or module.with_suffix(".packed.wasm")
    wasm = module.read_bytes()
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
    options = ["--ticks", str(arguments.ticks), "--fuel", str(arguments.fuel)]
    for board in pack.BOARDS:
        if board.name == arguments.board:
            options += [
                "--stack",
                str(board.stack_bytes),
                "--ram",
                str(board.ram_bytes),
                "--flash",
                str(board.flash_bytes),
            ]
    return interpreter.run(arguments.module, options)


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
    two.add_argument("--ticks", type=int, default=1, help="calls of wasmbed_tick after wasmbed_start")
    two.add_argument("--fuel", type=int, default=100_000_000, help="for each call, in bytes of translated code")
    two.add_argument("--board", choices=[board.name for board in pack.BOARDS], help="with this board's limits")
    two.set_defaults(action=_run)
    provision.add_parser(commands)
    return top


def main() -> None:
    """Entry point of the console script."""
    arguments = parser().parse_args()
    try:
        code: int = arguments.action(arguments)
    except (binary.ModuleError, interpreter.InterpreterError, flash_file.FlashError, OSError) as error:
        print(f"wasmbed: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
