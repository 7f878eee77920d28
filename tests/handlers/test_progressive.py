# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Views that grow in the course of a run."""

import pytest

from scripts.errors import InputError
from scripts.handlers import ProgressiveSize
from scripts.transforms import WeakView
from tests.tiny import trainer, workflow


def test_the_size_grows_in_equal_steps_to_the_full_one():
    handler = ProgressiveSize(WeakView(), 0.5, until=0.6, steps=2)
    assert [handler.resolution(p) for p in (0.0, 0.29, 0.31, 0.59, 0.6, 0.99)] == [0.5, 0.5, 0.75, 0.75, 1.0, 1.0]


def test_a_run_trains_on_growing_views_and_ends_at_the_full_size(tmp_path, synthetic_set, monkeypatch):
    seen = []
    forward = WeakView.forward

    def watched(self, image, label=None):
        views = forward(self, image, label)
        seen.append(views[0].shape[-1])
        assert label is None or views[0].shape[-2:] == views[1].shape[-2:]
        return views

    monkeypatch.setattr(WeakView, "forward", watched)
    values = {"progressive_size": 0.5, "image_size": 64, "unlabelled_batch_size": 0, "epoch_length": 4}
    files = ["train.json", "methods/supervised.yaml"]
    workflow(files, dataset_dir=str(synthetic_set), output_dir=str(tmp_path / "run"), **values).run()
    assert seen == [32, 32, 32, 48, 48, 48, 64, 64]


def test_without_it_nothing_is_attached():
    view = WeakView()
    engine = trainer(weak_view=view, train_handlers=[ProgressiveSize(view, 1.0)])
    engine.run()
    assert view.resolution == 1.0


def test_bad_values_and_views_without_resolution_are_refused():
    with pytest.raises(InputError, match="progressive_size is 0"):
        ProgressiveSize(WeakView(), 0)
    with pytest.raises(InputError, match="weak_view"):
        ProgressiveSize(None, 0.5)


def test_from_full_size_on_nothing_touches_the_view():
    view = WeakView()
    view.resolution = 0.5  # somebody else's
    trainer(weak_view=view, train_handlers=[ProgressiveSize(view, 1.0)]).run()
    assert view.resolution == 0.5
