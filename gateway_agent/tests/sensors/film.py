"""Films in YUV4MPEG2 for tests."""

from __future__ import annotations


def y4m(frames: int, width: int = 4, height: int = 2, colours: str = "420jpeg") -> bytes:
    luma = width * height
    chroma = 0 if colours == "mono" else 2 * ((width + 1) // 2) * ((height + 1) // 2)
    header = f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C{colours}\n".encode()
    return header + b"".join(b"FRAME\n" + bytes([number]) * luma + bytes(chroma) for number in range(frames))
