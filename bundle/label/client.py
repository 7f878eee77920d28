# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The requests that a session of labelling consists of, over MONAI Label's REST API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests  # comes with MONAI Label


class Client:
    """Talks to one server.

    Args:
        url: of the server.
        timeout: seconds that an answer may take.

    Raises:
        requests.HTTPError: from any request that the server refuses.
    """

    def __init__(self, url: str, timeout: float = 3600.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy for a server on this machine

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """One request, answered with success."""
        answer = self.session.request(method, self.url + path, timeout=self.timeout, **arguments)
        if not answer.ok:
            raise requests.HTTPError(f"{answer.status_code} for {method} {path}: {answer.text[:500]}", response=answer)
        return answer

    def info(self) -> dict[str, Any]:
        """What the server offers."""
        return self.request("GET", "/info/").json()

    def infer(self, model: str, image: str, **params: Any) -> bytes:
        """The file of the mask of an image of the studies."""
        data = {"params": json.dumps(params)}
        return self.request("POST", f"/infer/{model}", params={"image": image, "output": "image"}, data=data).content

    def infer_json(self, model: str, image: str, **params: Any) -> dict[str, Any]:
        """What the server tells of its answer: latencies, labels, polygons."""
        data = {"params": json.dumps(params)}
        return self.request("POST", f"/infer/{model}", params={"image": image, "output": "json"}, data=data).json()

    def next_image(self, strategy: str, **params: Any) -> dict[str, Any]:
        """The image to label next; empty if all are labelled."""
        return self.request("POST", f"/activelearning/{strategy}", json=params).json()

    def objects(self) -> dict[str, dict[str, Any]]:
        """Images of the datastore by id, each with ``image`` and ``labels`` (by tag)."""
        return self.request("GET", "/datastore/", params={"output": "all"}).json()["objects"]

    def save_label(self, image: str, mask: Path, tag: str = "final") -> None:
        """Hands a mask to the server."""
        with open(mask, "rb") as file:
            files = {"label": (mask.name, file)}
            self.request("PUT", "/datastore/label", params={"image": image, "tag": tag}, files=files)

    def train(self, model: str, wait: bool = True, **params: Any) -> dict[str, Any]:
        """Starts a training; with ``wait`` it is over when this returns."""
        return self.request("POST", f"/train/{model}", params={"run_sync": wait}, json=params).json()
