"""Measures files as scan does, but with a decoder that a marked file can kill, or a slow one."""

import time
from pathlib import Path
from typing import Any

from lethal import decode

from stages.lib.measuring import measure_file

MARKER = b"\xff\xd8\xff lethal: "


def measure_lethally(uri: str, **options: Any) -> bytes:
    """Measure a file as scan does, except where its content names a way to die."""
    content = Path(uri).read_bytes() if Path(uri).is_file() else b""
    if content.startswith(MARKER):
        decode(content.removeprefix(MARKER).decode())
    return measure_file(uri, **options)


def measure_slowly(uri: str, **options: Any) -> bytes:
    """Measure a file as scan does, taking a moment."""
    time.sleep(0.005)
    return measure_file(uri, **options)
