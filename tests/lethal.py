"""A decoder at its worst: the tests' functions that run in a child process.

A module of its own, so that a child that imports it imports nothing else.
"""

import ctypes
import os
import signal
import time
from pathlib import Path

# What an item does, and the reason that its verdict gives.
LETHAL = {"crash": "decoder_crash", "hang": "timeout", "starve": "out_of_memory"}
LETHAL |= {"exit": "decoder_crash", "kill": "decoder_crash"}


def decode(item: str) -> str:
    """Behave as a decoder does at its worst, each way in C where Python cannot interfere."""
    if item == "crash":
        ctypes.string_at(0)
    elif item == "hang":
        libc = ctypes.PyDLL(None)  # keeps the interpreter's lock, as a loop inside a decoder does
        while True:
            libc.sleep(1000)
    elif item == "starve":
        return str(len([bytearray(10_000_000) for _ in range(10_000)]))
    elif item == "exit":
        os._exit(0)
    elif item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif item == "defect":
        raise ZeroDivisionError("ours")
    elif item == "noise":
        os.write(1, b"decoder says hello\n")
        os.write(2, b"decoder: warning\n")
    return item.upper()


def crash_at_first(item: str, memory: Path) -> str:
    """Crash the first time that an item is seen, as a decoder does that an earlier file spoilt."""
    if item.startswith("flaky") and not (memory / item).exists():
        (memory / item).touch()
        ctypes.string_at(0)
    return item.upper()


def process_id(_: object) -> int:
    return os.getpid()


def folder_of(_: object) -> str:
    return str(Path.cwd())


def slow(folder: str) -> None:
    """Leave a trace of the process, then take a moment."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.1)
