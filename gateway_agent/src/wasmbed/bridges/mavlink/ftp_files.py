"""MAVLink FTP: a folder listed, a file read, a file written.

A read or write that was broken off goes on where it was: give what its result holds to the next one. The component's
checksum of the whole file then shows whether the two parts belong together.
"""

from dataclasses import dataclass

from wasmbed.bridges.mavlink.ftp import (
    CHUNK_BYTES,
    EOF,
    ERRORS,
    MAX_FILE_BYTES,
    NOT_FOUND,
    FileOperation,
    Opcode,
    Packet,
    checksum,
)
from wasmbed.bridges.mavlink.operations import Ids

MAX_ENTRIES = 4096
_CHANGED = "the file on the component is another one by its checksum"


@dataclass(frozen=True, slots=True)
class FileResult:
    """A file's content, or why there is none; then `partial` is what came of it, for the next try."""

    path: str
    data: bytes | None = None
    reason: str = ""
    partial: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether it was read."""
        return self.data is not None


class ReadFile(FileOperation[FileResult]):
    """Read one file, at most `max_bytes`. `resume` is the beginning that an earlier try has got."""

    def __init__(self, ids: Ids, path: str, *, max_bytes: int = MAX_FILE_BYTES, resume: bytes = b"") -> None:
        super().__init__(ids, path)
        self._max_bytes = max_bytes
        self._data = bytearray(resume)
        self._resumed = bool(resume)
        self._size = 0

    def start(self, now: float) -> None:
        """Open the file."""
        self.ask_path(Opcode.OPEN_READ, now)

    def answered(self, request: Packet, answer: Packet, now: float) -> None:
        """Go on with the next part."""
        if request.opcode == Opcode.CHECKSUM:
            same = int.from_bytes(answer.data[:4], "little") == checksum(bytes(self._data))
            self._end(FileResult(self.path, bytes(self._data)) if same else FileResult(self.path, reason=_CHANGED))
        elif request.opcode == Opcode.OPEN_READ:
            self.session = answer.session
            self._size = int.from_bytes(answer.data[:4], "little")
            if self._size > self._max_bytes:
                self._stop(now, f"{self._size} bytes are too many")
            elif self._resumed and len(self._data) > self._size:
                self._stop(now, _CHANGED)
            else:
                self._read(now)
        # An answer for another place belongs to an older request with the same number.
        elif answer.offset == request.offset and answer.data:
            self._data += answer.data
            if len(self._data) > self._max_bytes:
                self._stop(now, "the file is longer than it was said to be")
            else:
                self._read(now)

    def refused(self, request: Packet, error: int, now: float) -> None:
        """The end of the file, or of the operation."""
        if error == EOF and request.opcode == Opcode.READ:
            self._finish(now)
        else:
            self.fail(ERRORS.get(error, f"error {error}"))

    def fail(self, reason: str) -> None:
        """End without the file; what came is kept."""
        self._end(FileResult(self.path, reason=reason, partial=bytes(self._data)))

    def _read(self, now: float) -> None:
        if self._size and len(self._data) >= self._size:
            self._finish(now)
        else:
            # Not more than there is: MAVSDK's server fails when it is asked beyond the end.
            left = self._size - len(self._data) if self._size else CHUNK_BYTES
            self.ask(Opcode.READ, now, size=min(CHUNK_BYTES, left), offset=len(self._data))

    def _finish(self, now: float) -> None:
        self.terminate(now)
        if self._resumed:
            self.ask_path(Opcode.CHECKSUM, now)
        else:
            self._end(FileResult(self.path, bytes(self._data)))

    def _stop(self, now: float, reason: str) -> None:
        self.terminate(now)
        self._end(FileResult(self.path, reason=reason))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with its bytes, or a folder (`bytes` is None)."""

    name: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ListResult:
    """What is in a folder, or why that is not known."""

    path: str
    entries: tuple[Entry, ...] | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was listed."""
        return self.entries is not None


class ListFiles(FileOperation[ListResult]):
    """List a folder, at most `MAX_ENTRIES`."""

    def __init__(self, ids: Ids, path: str) -> None:
        super().__init__(ids, path)
        self._entries: list[Entry] = []
        self._asked = 0

    def start(self, now: float) -> None:
        """Ask for the first entries."""
        self.ask_path(Opcode.LIST, now)

    def answered(self, request: Packet, answer: Packet, now: float) -> None:
        """Take entries and ask for those after them."""
        if answer.offset not in (0, request.offset):
            return
        texts = [text for text in answer.data.split(b"\0") if text]
        # An entry that is skipped, `S`, counts in the offset as any other.
        self._asked += len(texts)
        self._entries += [entry for entry in map(_entry, texts) if entry is not None]
        if not texts:
            self._end(ListResult(self.path, tuple(self._entries)))
        elif self._asked > MAX_ENTRIES:
            self.fail(f"there are more than {MAX_ENTRIES} entries")
        else:
            self.ask_path(Opcode.LIST, now, offset=self._asked)

    def refused(self, request: Packet, error: int, now: float) -> None:
        """The end of the folder, or of the operation."""
        if error == EOF:
            self._end(ListResult(self.path, tuple(self._entries)))
        else:
            self.fail("there is no such folder" if error == NOT_FOUND else ERRORS.get(error, f"error {error}"))

    def cancel(self, now: float) -> None:
        """Ask no more; there is no session."""
        if self.result is None:
            self.fail("cancelled")

    def fail(self, reason: str) -> None:
        """End without the list."""
        self._end(ListResult(self.path, reason=reason))


def _entry(text: bytes) -> Entry | None:
    kind, name, size = text[:1], *text[1:].decode("utf-8", "replace").partition("\t")[::2]
    if not name or name in (".", ".."):
        return None
    if kind == b"D":
        return Entry(name)
    if kind != b"F":
        return None
    return Entry(name, int(size) if size.isascii() and size.isdigit() and len(size) < 20 else 0)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Whether the component has the file as it was given; else why not, and how many bytes it took already."""

    path: str
    ok: bool
    reason: str = ""
    written: int = 0


class WriteFile(FileOperation[WriteResult]):
    """Write one file, in place of what is there, and compare the component's checksum of it.

    `resume` is how many bytes an earlier try has written: they are kept when their checksum is right.
    """

    def __init__(self, ids: Ids, path: str, data: bytes, *, resume: int = 0) -> None:
        super().__init__(ids, path)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"{path}: {len(data)} bytes are too many; the limit is {MAX_FILE_BYTES}")
        if not 0 <= resume <= len(data):
            raise ValueError(f"{path}: resume must be 0 to {len(data)}, not {resume}")
        self._data = data
        self._written = resume
        self._closed = False

    def start(self, now: float) -> None:
        """Open the file, or see what is there."""
        if self._written:
            self.ask_path(Opcode.CHECKSUM, now)
        else:
            self.ask_path(Opcode.CREATE, now)

    def answered(self, request: Packet, answer: Packet, now: float) -> None:
        """Go on with the next part, and compare at the end."""
        if request.opcode in (Opcode.CREATE, Opcode.OPEN_WRITE):
            self.session = answer.session
            self._write(now)
        elif request.opcode == Opcode.WRITE:
            if answer.offset in (0, request.offset):
                self._written += request.size
                self._write(now)
        elif request.opcode == Opcode.TERMINATE:
            self._closed = True
            self.ask_path(Opcode.CHECKSUM, now)
        elif request.opcode == Opcode.CHECKSUM:
            self._compare(int.from_bytes(answer.data[:4], "little"), now)

    def refused(self, request: Packet, error: int, now: float) -> None:
        """Begin anew where nothing was to go on with; else that is the end."""
        if request.opcode == Opcode.CHECKSUM and not self._closed:
            self._anew(now)
        elif request.opcode == Opcode.TERMINATE:
            # The session is gone already.
            self._closed = True
            self.ask_path(Opcode.CHECKSUM, now)
        else:
            self.fail(ERRORS.get(error, f"error {error}"))

    def fail(self, reason: str) -> None:
        """End without the file."""
        self._end(WriteResult(self.path, False, reason, self._written))

    def _write(self, now: float) -> None:
        part = self._data[self._written : self._written + CHUNK_BYTES]
        if part:
            self.ask(Opcode.WRITE, now, part, offset=self._written)
        else:
            # Waited for: the component may write what it holds when the session ends.
            self.terminate(now)

    def _compare(self, found: int, now: float) -> None:
        if not self._closed:
            if found == checksum(self._data[: self._written]):
                self.ask_path(Opcode.OPEN_WRITE, now)
            else:
                self._anew(now)
        elif found == checksum(self._data):
            self._end(WriteResult(self.path, True, written=len(self._data)))
        else:
            self._written = 0
            self.fail("the component's file is another one by its checksum; write it again")

    def _anew(self, now: float) -> None:
        self._written = 0
        self.ask_path(Opcode.CREATE, now)
