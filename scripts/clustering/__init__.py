# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Segmentation without labels, one image at a time: cluster its pixels, then say which cluster is the object."""

from scripts.clustering.algorithms import FeatureClustering, KMeans, S3Clustering
from scripts.clustering.assignment import ASSIGNMENTS, blind_mask, oracle_cluster, oracle_cropped, overlap
from scripts.clustering.folder import ClusterFolder
from scripts.clustering.objectives import FeatureClusteringObjective, IntendedObjective, ReleasedObjective

__all__ = [
    "ASSIGNMENTS",
    "ClusterFolder",
    "FeatureClustering",
    "FeatureClusteringObjective",
    "IntendedObjective",
    "KMeans",
    "ReleasedObjective",
    "S3Clustering",
    "blind_mask",
    "oracle_cluster",
    "oracle_cropped",
    "overlap",
]
