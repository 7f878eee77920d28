# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle label --studies DIR``: a MONAI Label server with this bundle, offline, on this machine alone."""

from __future__ import annotations

import argparse
import signal
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bundle.label.app_folder import ROOT, Settings, build_app, model_name
from bundle.label.server import Server, free_port
from scripts.data.files import is_image
from scripts.errors import InputError

HELP = "start a MONAI Label server with this bundle on a folder of images (what `make label` runs)"
HOST, PORT = "127.0.0.1", 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--studies", required=True, metavar="DIR", help="folder of the images; labels go below it")
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any free one (default: {PORT})")
    parser.add_argument("--host", default=HOST, help=f"address to listen on (default: {HOST}, this machine alone)")
    app = "folder of the app and its weights (default: one of the studies' own in output/label)"
    parser.add_argument("--app", default="", metavar="DIR", help=app)
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declares what a new app is made from."""
    parser.add_argument("--weights", default="", metavar="FILE", help="model.pt of a training to start from")
    parser.add_argument("--classes", default="", help="names of the classes but the background, with commas")
    parser.add_argument("--overlay", action="append", default=[], metavar="FILE", help="a config of configs/*/, repeat")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the configs, repeat"
    )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings of a new app that the arguments give."""
    names = [name.strip() for name in arguments.classes.split(",") if name.strip()]
    weights = Path(arguments.weights).expanduser().absolute() if arguments.weights else None
    overlays = [Path(path).expanduser().absolute() for path in arguments.overlay]
    return Settings(weights=weights, classes=names, overlays=overlays, values=list(arguments.set))


def run(arguments: argparse.Namespace) -> None:
    """Serves until it is stopped.

    Raises:
        InputError: MONAI Label is not installed, the folder has no images, the port is taken, a setting is wrong.
    """
    require_monai_label()
    studies = studies_folder(arguments.studies)
    app = Path(arguments.app).expanduser().absolute() if arguments.app else default_app(studies)
    settings = settings_of(arguments)
    if (app / "main.py").is_file():
        settings.refuse_for(app)
        print(f"using the app in {app}, with the weights of its last training")
    else:
        build_app(app, settings)
        print(f"made the app {app}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Server(app, studies, arguments.host, arguments.port or free_port(arguments.host)) as server:
        print(f"{model_name(app)} answers at {server.url}, on the images of {studies}")
        print(f"labels go to {studies / 'labels'}, weights to {app / 'model'}; Ctrl-C stops it", flush=True)
        server.serve()


def require_monai_label() -> None:
    """Refuses an environment without MONAI Label.

    Raises:
        InputError: it is not installed.
    """
    try:
        version("monailabel")
    except PackageNotFoundError:
        raise InputError(
            "MONAI Label is not installed in this environment: run `make label STUDIES=<folder>`, which makes one of "
            "its own from bundle/label/requirements.txt"
        ) from None


def studies_folder(name: str) -> Path:
    """The folder of the images.

    Raises:
        InputError: it does not exist, or no image lies directly in it.
    """
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"--studies {name} is not a folder: name the folder of the images")
    if not any(is_image(path) for path in folder.iterdir()):
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(map(is_image, path.iterdir()))]
        hint = f"; {inner[0]} has some" if inner else ""
        raise InputError(f"--studies {folder} holds no image itself{hint}: name the folder in which the images lie")
    return folder


def default_app(studies: Path) -> Path:
    """A folder of its own for every folder of images, below output/ of this repository."""
    return ROOT / "output" / "label" / f"{studies.name}-{sha256(str(studies).encode()).hexdigest()[:8]}"
