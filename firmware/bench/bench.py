"""Measures the interpreter and writes build/bench/interp.json: figure -> number."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FIRMWARE / "tests"))
ROOT = FIRMWARE.parent
sys.path.insert(0, str(ROOT / "gateway_agent" / "src"))
interpreter = importlib.import_module("wasmbed.tools.interpreter")
pack = importlib.import_module("wasmbed.tools.pack")
WASM_CFLAGS = [
    "-target",
    "wasm32-freestanding",
    "-mcpu=mvp+sign_ext+bulk_memory+multivalue+nontrapping_fptoint+mutable_globals",
    "-std=c11",
    "-g0",
    "-nostdlib",
    "-fno-sanitize=undefined",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
]
TARGETS = {
    "m4": (
        [
            "arm-none-eabi-gcc",
            "-mcpu=cortex-m4",
            "-mthumb",
            "-mfloat-abi=hard",
            "-mfpu=fpv4-sp-d16",
            "--specs=nano.specs",
        ],
        ["tests/platform/semihost.c", "tests/platform/start_m4.c"],
        "tests/platform/m4.ld",
        ["qemu-system-arm", "-M", "mps2-an386"],
    ),
    "rv32": (
        [
            "riscv64-unknown-elf-gcc",
            "-march=rv32imac",
            "-misa-spec=2.2",
            "-mabi=ilp32",
            "-mcmodel=medany",
            "--specs=picolibc.specs",
        ],
        ["tests/platform/semihost.c", "tests/platform/start_rv32.S"],
        "tests/platform/rv32.ld",
        ["qemu-system-riscv32", "-M", "virt", "-cpu", "sifive-e31", "-m", "128M", "-bios", "none"],
    ),
}
API = [
    "wbi_load_begin",
    "wbi_load_feed",
    "wbi_load_finish",
    "wbi_load_bytes",
    "wbi_object_check",
    "wbi_instantiate",
    "wbi_start",
    "wbi_invoke",
    "wbi_resume",
    "wbi_result",
    "wbi_set_fuel",
    "wbi_expire",
    "wbi_guest",
    "wbi_find_function",
    "wbi_status_name",
    "wbi_ram_bytes",
]
FIB24_CALLS = 150_049
LIMITS = {
    "text_bytes_m4": 34_816,
    "text_bytes_rv32": 49_152,
    "ram_bytes": 512,
    "flash_bytes_per_wasm_byte": 4,
    "fib24_insns_per_call_m4": 220,
    "fib24_insns_per_call_rv32": 280,
    "slowdown_m4": 20,
    "slowdown_rv32": 25,
    "guest_min_memory_bytes": 400,
    "host_vs_wasm3": 3.5,
    "spec_failed": 0,
}
# Kernel, argument and repetitions that take the host about a tenth of a second.
HOST_KERNELS = {
    "fib": (24, 4), "crc32": (20000, 10), "sieve": (64, 300), "matrix": (3, 200), "sort": (1000, 60),
    "list": (100000, 20), "sha256": (300, 20), "parse": (2000, 8), "hash64": (60000, 10), "strings": (800, 8),
    "fir": (20000, 8), "pid": (60000, 8),
}  # fmt: skip


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done  # type: ignore[no-any-return]


def compile_wasm(output: Path, sources: list[Path], *options: str) -> None:
    run([sys.executable, "-m", "ziglang", "cc", *WASM_CFLAGS, *options, "-o", str(output), *map(str, sources)])


def programs(folder: Path) -> dict[str, Path]:
    """The modules that flash is measured over: the example, each kernel alone, and all of them."""
    sources = [FIRMWARE / "bench" / "kernels.c"]
    found = {"all": folder / "all.wasm"}
    compile_wasm(found["all"], [*sources, FIRMWARE / "bench" / "extra.c"], "-O2", "-Wl,-z,stack-size=1024")
    compile_wasm(folder / "kernels.wasm", sources, "-O2", "-Wl,-z,stack-size=1024")
    for name in HOST_KERNELS:
        found[name] = folder / f"{name}.wasm"
        compile_wasm(found[name], sources, "-O2", f"-DONLY_{name}", "-Wl,-z,stack-size=256", "-Wl,--export=__heap_base")
    found["hello"] = folder / "hello.wasm"
    hello = ROOT / "examples" / "hello" / "hello.c"
    small = ("-Os", "-Wl,-z,stack-size=256", "-Wl,--export=__heap_base", "-I", str(ROOT / "examples" / "sdk"))
    compile_wasm(found["hello"], [hello], *small)
    found["blink"] = folder / "blink.wasm"
    compile_wasm(found["blink"], [FIRMWARE / "bench" / "blink.c"], *small)
    return found


def count_instructions(build: Path, folder: Path, kind: str, module: Path) -> dict[str, int]:
    compiler, platform, script, qemu = TARGETS[kind]
    data = module.read_bytes()
    array = folder / "module.c"
    array.write_text(
        "#include <stdint.h>\nextern const uint8_t module_bytes[];\nextern const uint32_t module_length;\n"
        f"const uint32_t module_length = {len(data)};\nconst uint8_t module_bytes[] = {{{','.join(map(str, data))}}};\n"
    )
    program = folder / f"bench_{kind}"
    sources = ["bench/bench.c", "bench/kernels.c", "tests/platform/say.c", *platform]
    flags = [
        "-std=gnu11",
        "-O2",
        "-fno-strict-aliasing",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Iwasm/include",
        "-nostartfiles",
    ]
    run(
        [*compiler, *flags, *sources, str(array), str(build / kind / "libwbi.a"), "-T", script, "-Wl,--gc-sections",
         "-o", str(program)],
        cwd=FIRMWARE,
    )  # fmt: skip
    machine = [
        "-icount",
        "shift=0",
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "none",
        "-semihosting-config",
        "enable=on,target=native",
    ]
    output = run([*qemu, *machine, "-kernel", str(program)], timeout=300).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines() if line.count(" ") == 1)}


def text_bytes(build: Path, folder: Path, kind: str) -> dict[str, int]:
    """Flash of everything behind the interface, by the linker's map."""
    compiler, _, script, _ = TARGETS[kind]
    map_file = folder / f"{kind}.map"
    wanted = [f"-Wl,-u,{name}" for name in API]
    run(
        [*compiler, "-nostartfiles", f"-Wl,-e,wbi_invoke,--gc-sections,-Map={map_file}", "-T", script, *wanted,
         str(build / kind / "libwbi.a"), "-o", str(folder / f"{kind}.elf")],
        cwd=FIRMWARE,
    )  # fmt: skip
    text = map_file.read_text()
    text = re.sub(r"\n (\.\S+)\n\s+", r"\n \1 ", text[text.index("Linker script and memory map") :])
    shares = {"wbi": 0, "libgcc": 0, "libc": 0, "ram": 0}
    for name, address, size, origin in re.findall(r"^ (\.\S+)\s+0x(\w+)\s+0x(\w+)\s+(\S+)$", text, re.MULTILINE):
        if re.match(r"\.(data|sdata|bss|sbss)", name) and "libwbi" in origin:
            shares["ram"] += int(size, 16)
        elif re.match(r"\.(text|rodata|srodata|ARM\.ex)", name) and (int(address, 16) or kind == "m4"):
            shares["wbi" if "libwbi" in origin else "libgcc" if "libgcc" in origin else "libc"] += int(size, 16)
    return shares


def host_against_wasm3(build: Path, module: Path) -> dict[str, float]:
    """Both interpreters on the same kernels in one process each, best of five."""
    try:
        wasm3 = importlib.import_module("wasm3")
    except ImportError:
        print("wasm3 (pywasm3) is not installed: host_vs_wasm3 is left out")
        return {}
    library = ctypes.CDLL(str(build / "unit" / "libbench.so"))
    wasm = module.read_bytes()
    if (
        library.shim_load(wasm, len(wasm), 4096, 8192, 1 << 20, 0, 0, 0) != 0
        or library.shim_start(1 << 20, 1 << 16) != 0
    ):
        raise SystemExit("the host build refuses the kernels")
    environment = wasm3.Environment()
    runtime = environment.new_runtime(65536)
    runtime.load(environment.parse_module(wasm))
    figures = {}
    ratios = []
    for name, (argument, times) in HOST_KERNELS.items():
        theirs = runtime.find_function(name)
        argument_word = (ctypes.c_uint64 * 1)(argument)

        def ours(name: str = name, word: object = argument_word, times: int = times) -> None:
            for _ in range(times):
                if library.shim_call(name.encode(), word, 1, 0xFFFFFFFF) != 0:
                    raise SystemExit(f"{name} failed")

        def other(call: object = theirs, argument: int = argument, times: int = times) -> None:
            for _ in range(times):
                call(argument)  # type: ignore[operator]

        best = []
        for work in (ours, other):
            spent = []
            for _ in range(5):
                start = time.perf_counter()
                work()
                spent.append(time.perf_counter() - start)
            best.append(min(spent))
        ratios.append(best[0] / best[1])
        figures[f"host_vs_wasm3_{name}"] = round(ratios[-1], 2)
    figures["host_vs_wasm3"] = round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 3)
    return figures


def spec_figures() -> dict[str, int]:
    test_spec = importlib.import_module("test_spec")
    figures = {"spec_failed": 0}
    for kind, name in (("asan", "host"), ("m4", "m4"), ("rv32", "rv32")):
        passed, failed, skipped = map(int, re.findall(r"\d+", test_spec.run_suite(kind).rstrip().splitlines()[-1]))
        figures |= {f"spec_passed_{name}": passed, f"spec_skipped_{name}": skipped}
        figures["spec_failed"] += failed
    return figures


def flash_figures(modules: dict[str, Path]) -> dict[str, float]:
    """Flash and RAM of the programs as `wasmbed pack` gives them."""
    figures: dict[str, float] = {}
    ratios = []
    for name, path in modules.items():
        if name == "all":
            continue
        packed = pack.pack(path.read_bytes())
        info = interpreter.info(packed.wasm)
        ratios.append(info.flash_bytes / len(packed.wasm))
        figures[f"flash_per_byte_{name}"] = round(ratios[-1], 2)
        if name == "blink":
            figures["guest_min_memory_bytes"] = info.memory_bytes
            figures["blink_wasm_bytes"] = len(packed.wasm)
            figures["ram_bytes"] = next(cost.ram_bytes for cost in pack.costs(info)) - info.memory_bytes
    figures["flash_bytes_per_wasm_byte"] = round(sum(ratios) / len(ratios), 2)
    figures["flash_programs"] = len(ratios)
    return figures


def speed_figures(build: Path, folder: Path, kind: str, module: Path) -> dict[str, float]:
    """Instructions and flash on one core."""
    counts = count_instructions(build, folder, kind, module)
    slow = {
        name.removeprefix("interp_"): counts[name] / counts["native_" + name.removeprefix("interp_")]
        for name in counts
        if name.startswith("interp_")
    }
    integers = [value for name, value in slow.items() if name not in {"fir", "pid"}]
    shares = text_bytes(build, folder, kind)
    return {
        f"slowdown_{kind}": round(math.exp(sum(map(math.log, slow.values())) / len(slow)), 2),
        f"slowdown_integer_{kind}": round(math.exp(sum(map(math.log, integers)) / len(integers)), 2),
        **{f"slowdown_{name}_{kind}": round(value, 2) for name, value in slow.items()},
        f"fib24_insns_per_call_{kind}": round(counts["fib24"] / FIB24_CALLS, 1),
        f"host_call_insns_{kind}": round(counts["host_call_x1000"] / 1000, 1),
        f"validate_insns_per_byte_{kind}": round(counts["load"] / counts["load_bytes"], 1),
        f"check_insns_per_byte_{kind}": round(counts["check"] / counts["object_bytes"], 1),
        f"text_bytes_{kind}": shares["wbi"] + shares["libgcc"],
        f"text_libc_bytes_{kind}": shares["libc"],
        f"static_ram_bytes_{kind}": shares["ram"],
        f"sizeof_instance_{kind}": counts["sizeof_instance"],
        f"sizeof_loader_{kind}": counts["sizeof_loader"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--no-spec", action="store_true")
    arguments = parser.parse_args()
    build: Path = arguments.build
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    modules = programs(folder)
    figures: dict[str, float] = {}
    for kind in TARGETS:
        figures |= speed_figures(build, folder, kind, modules["all"])
    figures["host_call_insns"] = max(figures["host_call_insns_m4"], figures["host_call_insns_rv32"])
    figures["validate_insns_per_byte"] = max(figures[f"validate_insns_per_byte_{kind}"] for kind in TARGETS)
    figures |= flash_figures(modules)
    run(["make", "-s", "-C", str(FIRMWARE), f"BUILD={build}", str(build / "unit" / "libbench.so")])
    figures |= host_against_wasm3(build, folder / "kernels.wasm")
    if not arguments.no_spec:
        figures |= spec_figures()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")
    missed = [name for name, limit in LIMITS.items() if name in figures and figures[name] > limit]
    for name, value in sorted(figures.items()):
        limit = f"  limit {LIMITS[name]}" if name in LIMITS else ""
        print(f"{name:36}{value:>12}{limit}{'  MISSED' if name in missed else ''}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
