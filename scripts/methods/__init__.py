# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The learning rules, one file each."""

from scripts.methods.base import LearningRule
from scripts.methods.bcp import BidirectionalCopyPaste
from scripts.methods.cps import CrossPseudoSupervision
from scripts.methods.fixmatch import FixMatch
from scripts.methods.less_net import LessNet
from scripts.methods.mean_teacher import MeanTeacher
from scripts.methods.prior import ClassPrior
from scripts.methods.ramps import SigmoidRamp
from scripts.methods.similarity import SimilarityContrast
from scripts.methods.supervised import Supervised
from scripts.methods.teacher import EMATeacher
from scripts.methods.ua_mt import UncertaintyAwareMeanTeacher
from scripts.methods.unimatch import UniMatch

__all__ = [
    "BidirectionalCopyPaste",
    "ClassPrior",
    "CrossPseudoSupervision",
    "EMATeacher",
    "FixMatch",
    "LearningRule",
    "LessNet",
    "MeanTeacher",
    "SigmoidRamp",
    "SimilarityContrast",
    "Supervised",
    "UncertaintyAwareMeanTeacher",
    "UniMatch",
]
