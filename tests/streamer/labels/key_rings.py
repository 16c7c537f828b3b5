"""What the tests of encryption share: a server's keys, its folder of authorised keys, and clients' keys."""

from __future__ import annotations

import shutil
from pathlib import Path

from streamer.config import CurveConfig
from streamer.labels.curve import Curve, write_keys


class Keys:
    """A server called `server`; `curve(NAME)` are the keys of a client, made at first use."""

    def __init__(self, folder: Path, *authorized: str) -> None:
        self.folder, self.authorized = folder, folder / "authorized"
        self.authorized.mkdir()
        write_keys(folder / "server")
        self.config = CurveConfig(secret_key_file=folder / "server.key_secret", authorized_keys_dir=self.authorized)
        for name in authorized:
            self.authorize(name)

    def curve(self, name: str, server: str = "server") -> Curve:
        for one in (name, server):
            if not (self.folder / f"{one}.key").exists():
                write_keys(self.folder / one)
        return Curve(self.folder / f"{server}.key", self.folder / f"{name}.key_secret")

    def authorize(self, name: str) -> None:
        self.curve(name)
        shutil.copy(self.folder / f"{name}.key", self.authorized)
