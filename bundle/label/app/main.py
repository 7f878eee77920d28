# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app of this bundle: MONAI Label's own tasks, with the bundle's files, uncertainty and polygons.

A server of MONAI Label loads this file from its app folder, in which ``python -m bundle label`` has put it beside
``lib/`` and a copy of the bundle in ``model/<name>/``.
"""

import json
from pathlib import Path

import monailabel
from lib.inference import DropoutProbabilities, FlipUncertainty, Polygons, Segmentation
from lib.learning import DiceAgreement, EpistemicScoring, MostUncertain, UncertaintyScoring
from lib.training import Training
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random


class BundleApp(MONAILabelApp):
    """One bundle: a model, the same model with polygons as its answer, training, and four ways to the next image."""

    def __init__(self, app_dir: str, studies: str, conf: dict) -> None:
        self.bundle = next(path for path in sorted((Path(app_dir) / "model").iterdir()) if path.is_dir())
        self.uncertainty = UncertaintyScoring(FlipUncertainty(str(self.bundle), conf))
        metadata = json.loads((self.bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        super().__init__(
            app_dir,
            studies,
            conf,
            name=f"{self.bundle.name} (MONAI Label {monailabel.__version__})",
            description=metadata["description"],
            version=metadata["version"],
        )
        # MONAI Label would start a process for every scoring method after each image; ours count when they are asked
        self._auto_update_scoring = False

    def init_infers(self) -> dict:
        """The model under the bundle's name, and under ``<name>_polygons`` for CVAT."""
        path, name = str(self.bundle), self.bundle.name
        return {name: Segmentation(path, self.conf), f"{name}_polygons": Polygons(path, self.conf)}

    def init_trainers(self) -> dict:
        """Training of the bundle."""
        return {self.bundle.name: Training(str(self.bundle), self.conf)}

    def init_scoring_methods(self) -> dict:
        """Numbers for images without a label (uncertainty, epistemic) and for labels (dice)."""
        epistemic = EpistemicScoring(DropoutProbabilities(str(self.bundle), self.conf), simulation_size=5)
        return {"uncertainty": self.uncertainty, "epistemic": epistemic, "dice": DiceAgreement(self.bundle)}

    def init_strategies(self) -> dict:
        """Ways to choose the next image; ``epistemic`` goes by the numbers of the last such scoring."""
        unsure = MostUncertain(self.uncertainty)
        return {"uncertainty": unsure, "epistemic": Epistemic(), "random": Random(), "first": First()}
