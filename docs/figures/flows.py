# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Draws the data flow of the five systems for docs/methods.md: ``python docs/figures/flows.py``.

One table a system: boxes ``name: (kind, x, y, width, height, text)`` around their centre, and arrows ``(from, to,
dashed, path)``. An end of an arrow is ``box.side`` with an optional shift along that side (``box.right+3``); a path is
the list of turning coordinates, x and y in turn, the first across the direction in which the arrow leaves.
"""

from __future__ import annotations

from pathlib import Path

from drawing import DPI, Box, Flow, draw
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "images"

LESS_NET = Flow(
    57,
    {
        "labelled": Box("labelled", 8, 45, 14, 8, "labelled image\n+ mask"),
        "unlabelled": Box("unlabelled", 8, 26, 14, 8, "unlabelled\nimage"),
        "teacher": Box("teacher", 8, 8, 14, 8, "EMA teacher"),
        "pseudo": Box("step", 34, 8, 24, 10, "pseudo-label and weight:\nclass prior, threshold"),
        "strong": Box("step", 52, 45, 13, 6, "strong view"),
        "perturbed": Box("step", 52, 26, 13, 6, "strong view"),
        "student": Box("network", 70, 36, 14, 27, "student"),
        "supervised": Box("loss", 92, 45, 14, 7, "supervised"),
        "contrast": Box("loss", 92, 35, 14, 8, "contrast\nwith prototypes"),
        "consistency": Box("loss", 92, 22, 14, 10, "consistency"),
    },
    [
        ("labelled.right", "strong.left", False, []),
        ("strong.right", "student.left+9", False, []),
        ("unlabelled.right", "perturbed.left", False, []),
        ("unlabelled.bottom", "teacher.top", True, []),
        ("teacher.right", "pseudo.left", True, []),
        ("perturbed.right", "student.left-10", False, []),
        ("pseudo.right", "consistency.bottom", True, []),
        ("student.right+9", "supervised.left", False, []),
        ("student.right-1", "contrast.left", False, []),
        ("student.right-11", "consistency.left+3", False, []),
        ("labelled.top", "supervised.top", True, [53, 92]),
    ],
    [
        (60, 54.2, "mask"),
        (62, 10, "target and weight"),
        (80.8, 36.3, "stride 4"),
    ],
)

CRII_NET = Flow(
    57,
    {
        "labelled": Box("labelled", 8, 45, 14, 8, "labelled image\n+ mask"),
        "unlabelled": Box("unlabelled", 8, 23, 14, 8, "unlabelled\nimage"),
        "strong": Box("step", 25, 45, 12, 6, "strong view"),
        "strong_too": Box("step", 25, 23, 12, 6, "strong view"),
        "network": Box("network", 41, 34, 13, 32, "any network\n\n(encoder,\ndecoder)"),
        "weak": Box("step", 41, 9, 13, 8, "the same in\nthe weak view"),
        "coarse": Box("network", 61, 45, 20, 8, "coarse head\n1x1 at stride 4"),
        "refined": Box("network", 61, 24, 20, 10, "refined head\non image, full-size map,\ncoarse probabilities"),
        "embed": Box("network", 61, 7, 14, 7, "projection"),
        "answers": Box("step", 77.5, 34, 8, 7, "both\nanswers"),
        "supervised": Box("loss", 92, 41, 14, 8, "supervised\n(mean of both)"),
        "consistency": Box("loss", 92, 27, 14, 8, "consistency\n(mean of both)"),
        "intra": Box("loss", 78.5, 16, 12.5, 7, "intra\n(boundaries)"),
        "inter": Box("loss", 78.5, 7, 12.5, 7, "inter\n(low contrast)"),
    },
    [
        ("labelled.right", "strong.left", False, []),
        ("strong.right", "network.left+11", False, []),
        ("unlabelled.right", "strong_too.left", False, []),
        ("strong_too.right", "network.left-11", False, []),
        ("unlabelled.bottom", "weak.left", False, []),
        ("network.right+11", "coarse.left", False, []),
        ("network.right-10", "refined.left", False, []),
        ("coarse.bottom", "refined.top", False, []),
        ("coarse.right", "answers.top", False, []),
        ("refined.right", "answers.bottom", False, []),
        ("answers.right", "supervised.left", False, [83.2]),
        ("answers.right", "consistency.left", False, [83.2]),
        ("refined.bottom", "embed.top", False, []),
        ("embed.right", "inter.left", False, []),
        ("embed.right", "intra.left", False, [69.5]),
        ("labelled.top", "supervised.top", True, [53, 92]),
        ("weak.bottom", "consistency.bottom", True, [2, 92]),
    ],
    [
        (50, 54.2, "mask"),
        (66, 35.5, "probabilities"),
        (66, 0.6, "sure decisions of the refined head: target of the unlabelled images"),
    ],
)

MULTISCALE = Flow(
    54,
    {
        "labelled": Box("labelled", 8, 33, 14, 8, "labelled image\n+ mask"),
        "unlabelled": Box("unlabelled", 8, 16, 14, 8, "unlabelled\nimage"),
        "views": Box(
            "step",
            28.5,
            24.5,
            19,
            25,
            "for each network:\n\nstrong view of its own\n\nunlabelled again, clean,\nencoder maps\nperturbed",
        ),
        "first": Box("network", 69.5, 43, 55, 6, "network 1 (its EMA is deployed)"),
        "second": Box("network", 69.5, 6, 55, 6, "network 2 (training only)"),
        "decisions": Box("step", 50, 24.5, 15, 11, "decisions on\nthe clean\nimage"),
        "cross": Box("loss", 68, 24.5, 9, 8, "cross"),
        "projection": Box("network", 79.5, 34, 10, 5, "projection"),
        "other": Box("network", 79.5, 15, 10, 5, "projection"),
        "contrast": Box("loss", 79.5, 24.5, 10, 8, "patch\npixel"),
        "supervised": Box("loss", 91, 24.5, 11, 8, "supervised"),
    },
    [
        ("labelled.right", "views.left+8.5", False, []),
        ("unlabelled.right", "views.left-8.5", False, []),
        ("views.top", "first.left", False, []),
        ("views.bottom", "second.left", False, []),
        ("first.bottom-19.5", "decisions.top", True, []),
        ("second.top-19.5", "decisions.bottom", True, []),
        ("decisions.right", "cross.left", True, []),
        ("first.bottom-1.5", "cross.top", False, []),
        ("second.top-1.5", "cross.bottom", False, []),
        ("first.bottom+10", "projection.top", False, []),
        ("second.top+10", "other.bottom", False, []),
        ("projection.bottom", "contrast.top", False, []),
        ("other.top", "contrast.bottom", False, []),
        ("first.bottom+21.5", "supervised.top", False, []),
        ("second.top+21.5", "supervised.bottom", False, []),
        ("labelled.top", "supervised.right", True, [50, 98.6, 24.5]),
    ],
    [(50, 51.2, "mask"), (60.4, 27.2, "each"), (60.4, 25.6, "other's"), (63.4, 35, "two views")],
)

S3_NET = Flow(
    50,
    {
        "image": Box("unlabelled", 8, 33, 13, 8, "one image"),
        "moved": Box("step", 8, 10, 13, 9, "turned,\nflipped,\nscaled"),
        "features": Box("network", 27, 33, 16, 11, "features:\nconvolution, two\nattention blocks"),
        "again": Box("network", 27, 10, 16, 9, "features\n(same weights)"),
        "main": Box("network", 47, 33, 15, 9, "main head\n(deformable)"),
        "auxiliary": Box("network", 47, 10, 15, 9, "auxiliary head\n(1x1)"),
        "logits": Box("step", 67, 33, 12, 8, "logits of\n64 clusters"),
        "argmax": Box("step", 67, 21.5, 12, 6, "argmax"),
        "result": Box("step", 47, 21.5, 15, 8, "label map,\nblind mask"),
        "spatial": Box("loss", 91, 44, 15, 7, "spatial\n(few edges)"),
        "clustering": Box("loss", 91, 33, 15, 7, "clustering\n(be sure)"),
        "affine": Box("loss", 91, 10, 15, 7, "affine\n(consistency)"),
    },
    [
        ("image.right", "features.left", False, []),
        ("image.bottom", "moved.top", False, []),
        ("moved.right", "again.left", False, []),
        ("features.right", "main.left", False, []),
        ("again.right", "auxiliary.left", False, []),
        ("main.right", "logits.left", False, []),
        ("logits.right", "clustering.left", False, []),
        ("logits.top", "spatial.left", False, []),
        ("logits.bottom", "argmax.top", True, []),
        ("argmax.right", "clustering.bottom", True, []),
        ("argmax.bottom", "affine.top", True, [16.3, 91]),
        ("argmax.left", "result.right", True, []),
        ("auxiliary.right", "affine.left", False, []),
    ],
    [
        (74, 45.3, "softmax"),
        (80, 17.6, "moved like the image"),
        (57.8, 23, "after"),
        (57.8, 20, "the end"),
        (80, 22.8, "target"),
    ],
)

SCRIBSD_PLUS = Flow(
    57,
    {
        "labelled": Box("labelled", 9, 30, 13, 8, "image\n+ scribble"),
        "strong": Box("step", 26, 45, 13, 8, "strong view,\nnoise"),
        "noise": Box("step", 26, 11, 13, 8, "other noise"),
        "student": Box("network", 46, 45, 16, 11, "student, heads at\nstrides 1, 2, 4, 8"),
        "teacher": Box("teacher", 46, 11, 16, 11, "EMA teacher,\nthe same heads"),
        "distillation": Box("loss", 46, 29, 16, 8, "distillation\n(four scales)"),
        "projection": Box("network", 70, 41, 15, 6, "projection"),
        "follower": Box("teacher", 70, 9, 15, 6, "EMA projection"),
        "regions": Box("step", 70, 25, 17, 10, "class regions:\nthe stroke, else\nthe sure teacher"),
        "contrast": Box("loss", 92, 25, 14, 10, "contrast\nof class vectors"),
        "supervised": Box("loss", 92, 48, 14, 7, "supervised\n(partial CE)"),
    },
    [
        ("labelled.top", "strong.left", False, []),
        ("labelled.bottom", "noise.left", True, []),
        ("strong.right", "student.left", False, []),
        ("noise.right", "teacher.left", True, []),
        ("student.bottom", "distillation.top", False, []),
        ("teacher.top", "distillation.bottom", True, []),
        ("student.right+3", "supervised.left", False, []),
        ("student.right-4", "projection.left", False, []),
        ("projection.right", "contrast.top", False, []),
        ("teacher.right-2", "follower.left", True, []),
        ("teacher.right+3", "regions.left", True, [57.5]),
        ("follower.right", "contrast.bottom", True, []),
        ("regions.right", "contrast.left", True, []),
        ("labelled.left", "supervised.top", True, [0.9, 54, 92]),
    ],
    [(50, 55.2, "scribble"), (84.5, 42.4, "class vectors"), (84.5, 7.4, "class vectors")],
)

FLOWS = {
    "less_net": LESS_NET,
    "crii_net": CRII_NET,
    "multiscale_contrast": MULTISCALE,
    "s3_net": S3_NET,
    "scribsd_plus": SCRIBSD_PLUS,
}


def main() -> None:
    """Writes a picture of every system beside the other images of the documents."""
    for name, flow in FLOWS.items():
        path = FOLDER / f"flow_{name}.png"
        draw(name, flow).savefig(path, dpi=DPI, metadata={"Software": None})
        # flat colours: a palette of 64 halves the file and cannot be told apart
        Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path.relative_to(FOLDER.parents[1]), path.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
