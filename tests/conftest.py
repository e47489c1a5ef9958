"""Synthetic pictures, files and projects for the tests: small, seeded, with known answers."""

import copy
import functools
import http.server
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from stages.scan import scan_file

# The same examples on every run: a failure in CI is one that anybody can repeat.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

Picture = NDArray[np.uint8]

DEMO_PRESET = Path(__file__).parent.parent / "presets/demo.yaml"

# Encodings by name: Pillow's format, colour mode, options and the file's suffix.
ENCODINGS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "jpeg": ("JPEG", "RGB", {"quality": 90}, ".jpg"),
    "jpeg_rough": ("JPEG", "RGB", {"quality": 40}, ".jpg"),
    "jpeg_progressive": ("JPEG", "RGB", {"quality": 90, "progressive": True}, ".jpg"),
    "jpeg_grey": ("JPEG", "L", {"quality": 90}, ".jpg"),
    "jpeg_cmyk": ("JPEG", "CMYK", {"quality": 90}, ".jpg"),
    "png": ("PNG", "RGB", {}, ".png"),
    "gif": ("GIF", "P", {}, ".gif"),
    "webp": ("WEBP", "RGB", {"quality": 90}, ".webp"),
    "webp_lossless": ("WEBP", "RGB", {"lossless": True}, ".webp"),
    "bmp": ("BMP", "RGB", {}, ".bmp"),
    "tiff": ("TIFF", "RGB", {}, ".tif"),
    "tiff_deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}, ".tif"),
}


@pytest.fixture(scope="session")
def textured_picture() -> Callable[..., Picture]:
    """Return a maker of smooth, textured RGB pictures; another seed gives a quite different one.

    blobs: how many spots of colour there are each way; more of them make a finer texture.
    """

    def make(seed: int, height: int = 48, width: int = 64, blobs: int = 7) -> Picture:
        spots = np.random.default_rng(seed).integers(0, 256, (blobs, blobs, 3), dtype=np.uint8)
        image = Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)

    return make


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Return a function from pixels and the name of an encoding to a file's bytes."""

    def run(pixels: Picture, encoding: str = "png", **options: Any) -> bytes:
        name, mode, usual, _ = ENCODINGS[encoding]
        stream = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(stream, name, **{**usual, **options})
        return stream.getvalue()

    return run


@pytest.fixture(scope="session")
def picture_file(
    textured_picture: Callable[..., Picture], encode: Callable[..., bytes]
) -> Callable[..., bytes]:
    """Return a maker of files: `encode` of `textured_picture`."""

    def make(seed: int, encoding: str = "png", height: int = 48, width: int = 64) -> bytes:
        return encode(textured_picture(seed, height, width), encoding)

    return make


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that makes the current folder a project: params.yaml and overrides.csv.

    Its keywords are sections, each a dict of the keys that differ from the demo preset.
    """
    monkeypatch.chdir(tmp_path)
    preset = YAML(typ="safe", pure=True).load(DEMO_PRESET.read_text(encoding="utf-8"))
    preset["parallel"] = {"backend": "loky", "workers": 1, "address": ""}

    def make(**sections: Mapping[str, Any]) -> Path:
        content = copy.deepcopy(preset)
        for name, changes in sections.items():
            content[name].update(changes)
        with Path("params.yaml").open("w", encoding="utf-8") as stream:
            YAML(typ="safe", pure=True).dump(content, stream)
        Path("overrides.csv").write_text("image_id,action,value,note\n", encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture(scope="session")
def write_files() -> Callable[[Path, Mapping[str, bytes]], None]:
    """Return a function that writes files (relative path to content) below a folder."""

    def write(folder: Path, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    return write


@pytest.fixture
def scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_files: Callable[..., None]
) -> Callable[..., pd.DataFrame]:
    """Return a function from files to the table that scan makes of them.

    files: `label/name` to content. official_split, clip: what download would have said of a file.
    """
    monkeypatch.chdir(tmp_path)

    def run(
        files: Mapping[str, bytes],
        official_split: Mapping[str, str] | None = None,
        clip: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        write_files(Path(), files)
        rows = [
            {
                "uri": uri,
                "label": uri.split("/")[0],
                "official_split": (official_split or {}).get(uri, ""),
                "clip": (clip or {}).get(uri, ""),
                **scan_file(uri, 10**6),
            }
            for uri in files
        ]
        return pd.DataFrame(rows)

    return run


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `error-500` fails and `cut-short` promises more than it sends."""

    def do_GET(self) -> None:
        if self.path == "/error-500":
            self.send_error(500)
        elif self.path == "/cut-short":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 100)
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        self.do_GET() if self.path in ("/error-500", "/cut-short") else super().do_HEAD()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a folder on this machine and gives its address."""
    servers = []

    def start(folder: Path) -> str:
        pages = functools.partial(_Pages, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), pages)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
