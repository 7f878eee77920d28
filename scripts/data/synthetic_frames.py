# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Paints one endoscopy-like frame: mucosa with folds and vessels, red lesions, red non-lesions, vignette, highlights.

What tells a lesion from the other red things is its ragged, sharp border and grainy inside together with its colour:
flushes, vessels and smooth round spots are as red in places, and the tint of a patient and the light of a frame move
all colours. A rule on the colour alone therefore does badly, which is what makes labels matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

LESION_SHARE = (0.002, 0.1)  # of all pixels of a frame
EMPTY_FRAMES = 0.08


@dataclass(frozen=True)
class Patient:
    """What the frames of one patient share.

    Attributes:
        tint: (3,) RGB of the mucosa in [0, 1].
        blood: (3,) RGB of a lesion.
        radius: of the visible circle, as a share of the frame's side.
        texture: strength of the fine texture.
        vessels: visibility of the vessels.
    """

    tint: np.ndarray
    blood: np.ndarray
    radius: float
    texture: float
    vessels: float


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient with a tint between pale salmon and deep pink."""
    pale = rng.uniform(0, 1)
    tint = np.array([0.84, 0.52, 0.46]) * (1 - pale) + np.array([0.78, 0.38, 0.36]) * pale
    blood = np.array([rng.uniform(0.46, 0.62), rng.uniform(0.06, 0.15), rng.uniform(0.05, 0.13)])
    return Patient(
        tint=tint + rng.normal(0, 0.02, 3),
        blood=blood,
        radius=rng.uniform(0.47, 0.56),
        texture=rng.uniform(0.01, 0.03),
        vessels=rng.uniform(0.25, 0.8),
    )


def noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """A smooth random field (size, size), mean 0, deviation 1; ``scale`` is the width of its blobs in pixels.

    White noise is filtered in the frequency domain on a larger grid, of which a part is kept, so that opposite borders
    do not match.
    """
    side = size + 64
    low = np.exp(-((np.fft.fftfreq(side) * 2 * scale) ** 2)).astype(np.float32)
    spectrum = np.fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    spectrum *= low[:, None] * low[: side // 2 + 1]
    field = np.fft.irfft2(spectrum, s=(side, side))[:size, :size]
    return (field - field.mean()) / (field.std() + 1e-9)


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def paint_frame(rng: np.random.Generator, patient: Patient, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Paints a frame and its mask.

    Args:
        rng: the frame's random generator.
        patient: what it has in common with other frames.
        size: side in pixels.

    Returns:
        Image (Y, X, 3) uint8 and mask (Y, X) uint8, 255 in lesions.
    """
    y, x = np.mgrid[:size, :size] / size - 0.5
    centre = rng.normal(0, 0.02, 2)
    distance = np.hypot(x - centre[0], y - centre[1])
    light = _light(rng, x, y, distance, patient.radius)
    visible = (distance < patient.radius - 0.01) & (light > 0.5)
    height, shade = _relief(rng, size)
    colour = _mucosa(rng, patient, shade, size)
    colour = _flush(rng, patient, colour, size)
    colour = _spots(rng, patient, colour, x, y)
    lesion = np.zeros((size, size), dtype=bool)
    if rng.random() >= EMPTY_FRAMES:
        lesion = _lesion_region(rng, x, y, visible)
        colour = _bleed(rng, patient, colour, lesion, shade)
    colour = colour * (shade * light)[..., None]
    colour = _highlights(rng, colour, height, light, size)
    colour *= smoothstep(-distance, -patient.radius - 0.004, -patient.radius + 0.004)[..., None]
    colour = _camera(rng, colour)
    return colour, (lesion * 255).astype(np.uint8)


def _relief(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Folds: a height field with a few wide creases, and its shading about 1 under a slanted light."""
    coarse = noise(rng, size, 0.2 * size)
    path = noise(rng, size, rng.uniform(0.14, 0.24) * size) + 0.06 * noise(rng, size, 0.04 * size)
    crease = np.exp(-((path / rng.uniform(0.12, 0.3)) ** 2)) * smoothstep(noise(rng, size, 0.2 * size), -0.6, 0.8)
    height = 0.6 * coarse - 0.8 * crease + 0.08 * noise(rng, size, 0.03 * size)
    slope_y, slope_x = np.gradient(height, 4 / size)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * slope_x + np.sin(angle) * slope_y
    shade = 1 + 0.16 * np.tanh(0.7 * slope) - rng.uniform(0.15, 0.4) * crease
    return height, shade


def _mucosa(rng: np.random.Generator, patient: Patient, shade: np.ndarray, size: int) -> np.ndarray:
    """Tinted tissue with blotches, fine texture and vessels, (size, size, 3)."""
    colour = np.ones((size, size, 3)) * patient.tint
    blotch = noise(rng, size, 0.07 * size)[..., None]
    colour *= 1 + blotch * np.array([0.02, 0.06, 0.05])
    colour *= 1 + patient.texture * noise(rng, size, 2.0)[..., None]
    vessel = np.zeros((size, size))
    for scale, width in ((0.1, 0.05), (0.05, 0.06)):
        field = noise(rng, size, scale * size) + 0.15 * noise(rng, size, 0.02 * size)
        present = smoothstep(noise(rng, size, 0.08 * size), -0.4, 0.9)
        vessel = np.maximum(vessel, present * (1 - smoothstep(np.abs(field), 0.2 * width, 2 * width)))
    strength = (patient.vessels * vessel)[..., None]
    return colour * (1 - strength * np.array([0.22, 0.62, 0.55]))


def _flush(rng: np.random.Generator, patient: Patient, colour: np.ndarray, size: int) -> np.ndarray:
    """Reddened areas with soft borders, which are no lesions."""
    for _ in range(rng.integers(0, 4)):
        field = noise(rng, size, rng.uniform(0.05, 0.12) * size)
        level = rng.uniform(1.2, 2.2)
        strength = rng.uniform(0.25, 0.75) * smoothstep(field, level - 0.7, level + 0.7)[..., None]
        colour = colour * (1 - strength) + strength * (0.65 * patient.blood + 0.35 * patient.tint)
    return colour


def _spots(rng: np.random.Generator, patient: Patient, colour: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth round dark red spots (vascular naevi), as red as a lesion and none."""
    for _ in range(rng.integers(0, 4)):
        centre, reach, stretch = rng.uniform(-0.35, 0.35, 2), rng.uniform(0.015, 0.045), rng.uniform(0.8, 1.25)
        away = np.hypot((x - centre[0]) * stretch, (y - centre[1]) / stretch) / reach
        strength = rng.uniform(0.45, 0.85) * (1 - smoothstep(away, 0.55, 1.25))[..., None]
        colour = colour * (1 - strength) + strength * patient.blood * rng.uniform(0.95, 1.25)
    return colour


def _lesion_region(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """One to three ragged regions, together with an area drawn log-uniformly from ``LESION_SHARE``."""
    size = len(x)
    low, high = np.log(LESION_SHARE)
    area = min(int(np.ceil(np.exp(rng.uniform(low, high)) * size * size)), int(visible.sum()) // 2)
    reach = np.sqrt(area / np.pi) / size
    field = np.full(x.shape, np.inf)
    places = np.argwhere(visible & (np.hypot(x, y) < 0.38))
    parts = 1 if area < 0.01 * size * size else rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])
    for part in range(parts):
        row, column = places[rng.integers(len(places))]
        turn, stretch = rng.uniform(0, np.pi), rng.uniform(1, 2.6)
        dx, dy = x - x[row, column], y - y[row, column]
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        field = np.minimum(field, np.hypot(along / stretch, across * stretch) / reach + 0.25 * part)
    ragged = 0.3 * noise(rng, size, max(3.0, 0.4 * reach * size)) + 0.05 * noise(rng, size, 2.5)
    field = np.where(visible, field + ragged, np.inf)
    return field <= np.partition(field.ravel(), area - 1)[area - 1]


def _blur(values: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian blur of values in [0, 1]."""
    picture = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64) / 255


def _bleed(
    rng: np.random.Generator, patient: Patient, colour: np.ndarray, lesion: np.ndarray, shade: np.ndarray
) -> np.ndarray:
    """The lesion's colour, thicker and darker inside, thin at places, with a narrow soft border."""
    size = len(lesion)
    cover = _blur(lesion.astype(np.float64), rng.uniform(0.7, 1.6))
    depth = _blur(lesion.astype(np.float64), 0.03 * size)
    thickness = np.clip(rng.uniform(0.62, 0.95) + 0.14 * noise(rng, size, 5.0) + 0.15 * (depth - 0.5), 0.25, 1)
    blood = patient.blood * (1.15 - 0.35 * depth[..., None]) * (1 + 0.1 * noise(rng, size, 3.0)[..., None])
    strength = (cover * thickness)[..., None]
    return colour * (1 - strength) + strength * blood


def _light(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, distance: np.ndarray, radius: float) -> np.ndarray:
    """The lamp, brightest near the middle; in some frames the cavity runs off into the dark."""
    spot = rng.normal(0, 0.1, 2)
    light = rng.uniform(1.0, 1.2) - rng.uniform(0.8, 1.6) * ((x - spot[0]) ** 2 + (y - spot[1]) ** 2)
    light *= 1 - 0.35 * smoothstep(distance, 0.7 * radius, radius)
    if rng.random() < 0.45:
        hole = rng.uniform(-0.3, 0.3, 2)
        away = np.hypot(x - hole[0], (y - hole[1]) * rng.uniform(0.8, 1.4)) + 0.02 * noise(rng, len(x), 0.08 * len(x))
        reach = rng.uniform(0.08, 0.2)
        light *= rng.uniform(0.12, 0.35) + smoothstep(away, 0.2 * reach, 1.6 * reach)
    return np.clip(light, 0, 1.25)


def _highlights(
    rng: np.random.Generator, colour: np.ndarray, height: np.ndarray, light: np.ndarray, size: int
) -> np.ndarray:
    """Wet reflections: small white spots where the surface is high and well lit."""
    field = 0.85 * noise(rng, size, 0.025 * size) + 0.2 * noise(rng, size, 2.0) + 0.4 * height + 1.2 * (light - 1)
    level = rng.uniform(1.9, 2.7)
    spots = _blur(smoothstep(field, level, level + 0.3), 0.7)[..., None]
    glow = _blur(spots[..., 0], 4.0)[..., None]
    return colour * (1 - spots) + spots * np.array([1.0, 0.97, 0.95]) + 0.12 * glow


def _camera(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Exposure, white balance, slight defocus and sensor noise; the frame as uint8."""
    colour = colour * rng.uniform(0.82, 1.15) * (1 + rng.normal(0, 0.025, 3))
    picture = Image.fromarray((np.clip(colour, 0, 1) * 255).astype(np.uint8))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9))), dtype=np.float64)
    noisy = blurred + rng.normal(0, rng.uniform(1, 4), blurred.shape) * (blurred > 4)
    return np.clip(noisy, 0, 255).astype(np.uint8)
