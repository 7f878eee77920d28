# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A MONAI Label server as a child process: started on a free port, waited for, and ended with all it has started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

from scripts.data.files import NIFTI_SUFFIXES, PICTURE_SUFFIXES
from scripts.errors import InputError

START = 180.0  # seconds; a cold disk takes half a minute to import torch and MONAI Label
STOP = 10.0
SUFFIXES = [*NIFTI_SUFFIXES, *PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES)]


class Server:
    """Serves ``studies`` with ``app`` between ``__enter__`` (returns when it answers) and ``__exit__``.

    Args:
        app: app folder, of :func:`bundle.label.app_folder.build_app` or another one of MONAI Label.
        studies: folder of the images.
        host: address to listen on.
        port: port to listen on.
        conf: further settings of the app (``--conf key value``).
        log: file for what the server prints; None: ``<app>/logs/server.log``.

    Raises:
        InputError: the port is taken, or the server does not answer in time; with the end of its log.
    """

    def __init__(
        self,
        app: Path,
        studies: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        conf: dict[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.app, self.studies, self.host, self.port = app.absolute(), studies.absolute(), host, port or free_port(host)
        self.conf = {"zoo_source": "local", "sam2": "false"} | (conf or {})
        self.log = log or self.app / "logs" / "server.log"
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def command(self) -> list[str]:
        """The command line of MONAI Label."""
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(self.app)]
        command += ["--studies", str(self.studies), "--host", self.host, "--port", str(self.port)]
        return command + [part for key, value in self.conf.items() for part in ("--conf", key, value)]

    def environment(self) -> dict[str, str]:
        """The environment: no other copy of the bundle on the path, and every kind of file that the bundle reads."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        suffixes = json.dumps([f"*{suffix}" for suffix in SUFFIXES])
        # there is one bundle: without this, its modules would be loaded anew for every image
        return environment | {"MONAI_LABEL_DATASTORE_FILE_EXT": suffixes, "MONAI_LABEL_RELOAD_APP_LIB": "false"}

    def __enter__(self) -> Server:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except (OSError, OverflowError) as error:  # a port above 65535 is an overflow
                raise refusal(self.host, self.port, error) from None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.app,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that it and its trainings can be ended together
            )
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> None:
        """Returns when the server answers.

        Raises:
            InputError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + START
        while not self.answers():
            if self.process.poll() is not None:
                raise InputError(f"the server ended (exit code {self.process.returncode}); {self.end_of_log()}")
            if time.monotonic() > deadline:
                raise InputError(f"the server did not answer within {START:.0f} seconds; {self.end_of_log()}")
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether ``/info/`` is answered."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy
        try:
            with opener.open(f"{self.url}/info/", timeout=30) as answer:
                return answer.status == 200
        except OSError:
            return False

    def serve(self) -> None:
        """Waits until the server ends.

        Raises:
            InputError: it ended by itself.
        """
        raise InputError(f"the server ended (exit code {self.process.wait()}); {self.end_of_log()}")

    def end_of_log(self) -> str:
        """The last lines that it printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:] if self.log.is_file() else []
        return "\n".join([f"the end of {self.log}:", *lines])

    def stop(self) -> None:
        """Ends the server and whatever it has started."""
        if self.process is None:
            return
        for end in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, end)
            except ProcessLookupError:
                break
            try:
                self.process.wait(STOP)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.process = None


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise refusal(host, 0, error) from None
        return probe.getsockname()[1]


def refusal(host: str, port: int, error: Exception) -> InputError:
    """Why nothing can listen there."""
    reason = getattr(error, "strerror", None) or error
    return InputError(f"cannot listen on {host}:{port} ({reason}): give another port or host")
