# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The strong view: random photometry on a whole batch; the grid stays, so masks and pseudo-labels stay aligned."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class StrongView(nn.Module):
    """Random brightness, contrast, gamma, channel balance, saturation, blur and noise, one draw per image.

    The channel balance moves every channel apart; it is kept small, since in endoscopy the colour is the cue.
    Runs on the device of its input and draws from torch's global generator of that device.

    Args:
        brightness: largest additive change.
        contrast, gamma, saturation: largest factor minus 1, drawn log-uniformly around 1.
        balance: largest relative change of one channel against the others.
        blur: largest standard deviation of the Gaussian blur in pixels.
        noise: largest standard deviation of the Gaussian noise.
        grey: probability of a grey image (three or more channels).
        probability: share of the images that get each of the changes (blur, noise: half of it).
    """

    def __init__(
        self,
        brightness: float = 0.2,
        contrast: float = 0.5,
        gamma: float = 0.5,
        saturation: float = 0.5,
        balance: float = 0.1,
        blur: float = 1.5,
        noise: float = 0.05,
        grey: float = 0.05,
        probability: float = 0.8,
    ) -> None:
        super().__init__()
        self.brightness, self.contrast, self.gamma, self.saturation = brightness, contrast, gamma, saturation
        self.balance, self.blur, self.noise, self.grey, self.probability = balance, blur, noise, grey, probability

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B, C, X, Y) in [0, 1] -> the same shape and range."""
        if not len(image):  # a batch without labelled images
            return image
        image = self.jitter_colour(image)
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        image = (image - mean) * self.factor(image, self.contrast) + mean
        image = (image + self.offset(image, self.brightness)).clamp(1e-4, 1.0)
        image = image.pow(self.factor(image, self.gamma))
        if self.blur > 0:
            image = gaussian_blur(image, self.offset(image, self.blur, self.probability / 2).abs().flatten())
        if self.noise > 0:
            image = image + torch.randn_like(image) * self.offset(image, self.noise, self.probability / 2)
        return image.clamp(0.0, 1.0)

    def jitter_colour(self, image: Tensor) -> Tensor:
        """Channel balance and saturation; one-channel images have neither."""
        if image.shape[1] == 1:
            return image
        balance = 1 + self.offset(image, self.balance, channels=image.shape[1])
        image = image * balance
        grey = image.mean(dim=1, keepdim=True)
        saturation = self.factor(image, self.saturation)
        saturation = torch.where(torch.rand_like(saturation) < self.grey, torch.zeros_like(saturation), saturation)
        return grey + (image - grey) * saturation

    def offset(self, image: Tensor, largest: float, probability: float | None = None, channels: int = 1) -> Tensor:
        """(B, channels, 1, 1): uniform in [-largest, largest] for the drawn share of the images, else 0."""
        size = (image.shape[0], channels, 1, 1)
        active = torch.rand(size[0], 1, 1, 1, device=image.device) < (
            self.probability if probability is None else probability
        )
        return (2 * torch.rand(size, device=image.device) - 1) * largest * active

    def factor(self, image: Tensor, largest: float) -> Tensor:
        """(B, 1, 1, 1): log-uniform in [1/(1+largest), 1+largest] for the drawn share of the images, else 1."""
        return torch.exp(self.offset(image, math.log1p(largest)))


def gaussian_blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (B, C, X, Y) with one standard deviation (B,) in pixels per image; sigma 0 leaves it as it is.

    Radius 4 pixels (sigma up to about 2), borders by replication; two one-dimensional passes.
    """
    batch, channels = image.shape[:2]
    offsets = torch.arange(-4, 5, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.view(-1, 1).clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    x = F.pad(image.reshape(1, batch * channels, *image.shape[2:]), (4, 4, 4, 4), mode="replicate")
    with torch.autocast(image.device.type, enabled=False):  # images keep their grey values in mixed precision
        x = F.conv2d(x, kernel.view(-1, 1, 1, 9), groups=batch * channels)
        return F.conv2d(x, kernel.view(-1, 1, 9, 1), groups=batch * channels).view_as(image)
