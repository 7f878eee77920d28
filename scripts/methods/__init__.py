# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The learning rules, one file each."""

from scripts.methods.base import LearningRule
from scripts.methods.bcp import BidirectionalCopyPaste
from scripts.methods.cluster_pretraining import ClusterPretraining
from scripts.methods.cps import CrossPseudoSupervision
from scripts.methods.crii_net import CriiNet
from scripts.methods.dmpls import DMPLS
from scripts.methods.entropy_minimisation import EntropyMinimisation
from scripts.methods.fixmatch import FixMatch
from scripts.methods.less_net import LessNet
from scripts.methods.mean_teacher import MeanTeacher
from scripts.methods.memory import ClassMemory
from scripts.methods.multiscale_contrast import MultiscaleContrast
from scripts.methods.partial_ce import PartialCE
from scripts.methods.prior import ClassPrior
from scripts.methods.projection import ProjectionHead
from scripts.methods.ramps import SigmoidRamp, unlabelled_weight
from scripts.methods.scribsd_plus import ClassContrast, ScribSDPlus
from scripts.methods.similarity import SimilarityContrast
from scripts.methods.supervised import Supervised
from scripts.methods.teacher import EMATeacher
from scripts.methods.ua_mt import UncertaintyAwareMeanTeacher
from scripts.methods.unimatch import UniMatch
from scripts.methods.ustm import USTM

__all__ = [
    "BidirectionalCopyPaste",
    "ClassContrast",
    "ClassMemory",
    "ClassPrior",
    "ClusterPretraining",
    "CriiNet",
    "CrossPseudoSupervision",
    "DMPLS",
    "EMATeacher",
    "EntropyMinimisation",
    "FixMatch",
    "LearningRule",
    "LessNet",
    "MeanTeacher",
    "MultiscaleContrast",
    "PartialCE",
    "ProjectionHead",
    "ScribSDPlus",
    "SigmoidRamp",
    "SimilarityContrast",
    "Supervised",
    "USTM",
    "UncertaintyAwareMeanTeacher",
    "UniMatch",
    "unlabelled_weight",
]
