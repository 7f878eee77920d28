# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation, through the real evaluator."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from PIL import Image

from scripts import metrics, pictures
from scripts.errors import InputError
from scripts.handlers.results import EvaluationResults, choose_cases, class_rows, read_confusion
from scripts.transforms.resize import resize_plane


class Loaded(Dataset):
    """Items with the paths in ``data`` and the tensors on access, as MONAI's data sets with transforms have it."""

    def __init__(self, tensors):
        super().__init__([{"image": f"/there/{item['key']}.png", "key": item["key"]} for item in tensors])
        self.tensors = tensors

    def _transform(self, index):
        return self.tensors[index]


def a_dataset(count=7, classes=2, size=(20, 14)):
    generator = torch.Generator().manual_seed(3)
    smooth = torch.nn.functional.avg_pool2d(torch.rand((count, classes, *size), generator=generator), 5, 1, 2)
    label = smooth.argmax(1, keepdim=True).to(torch.uint8)
    label[0] = 0
    label[1, :, :2] = 255
    image = smooth + 0.02 * torch.rand(smooth.shape, generator=generator)
    return Loaded([{"image": i, "label": t, "key": f"case_{n}"} for n, (i, t) in enumerate(zip(image, label))])


def evaluate(folder, dataset, classes=2, network=None, **kwargs):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=3),
        network=network or torch.nn.Identity(),
        val_handlers=[EvaluationResults(str(folder), classes, facts={"part": "test"}, score_size="network", **kwargs)],
        decollate=False,
    )
    evaluator.run()
    return evaluator


def read_rows(folder):
    with open(folder / "per_image.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("classes", [2, 3])
def test_everything_is_written_and_true(tmp_path, classes):
    dataset = a_dataset(classes=classes)
    evaluate(tmp_path, dataset, classes, cases=2)
    summary, rows = json.loads((tmp_path / "metrics.json").read_text()), read_rows(tmp_path)
    image, label = (torch.stack([t[key] for t in dataset.tensors]) for key in ("image", "label"))
    confusion = metrics.confusion_counts(image.argmax(1), label[:, 0], classes)
    expected = metrics.overlap_scores(confusion)
    assert {key: summary["scores"][key] for key in expected} == pytest.approx(expected)
    assert set(summary["scores"]) <= set(summary["definitions"])
    assert summary["scored_at"]["size"] == [20, 14] and summary["images"] == 7 and summary["part"] == "test"
    assert len(summary["classes"]) == classes - 1
    assert [row["key"] for row in rows] == [f"case_{n}" for n in range(7)]
    assert [row["image"] for row in rows] == [f"/there/case_{n}.png" for n in range(7)]
    assert [float(row["dice"]) for row in rows] == pytest.approx(metrics.image_dice(confusion).tolist(), abs=1e-6)
    assert ("dice_2" in rows[0]) is (classes > 2)
    assert read_confusion(tmp_path / "confusion.csv") == {
        f"case_{n}": table for n, table in enumerate(confusion.tolist())
    }
    pictures = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert [name.rsplit("_case", 1)[0] for name in pictures] == [
        f"{k}_{n}" for k in ("best", "median", "worst") for n in (1, 2)
    ]
    for name in ("cases.png", "errors.png", "confusion.png"):
        Image.open(tmp_path / name).load()
    assert (tmp_path / "report.html").is_file()


def test_values_that_do_not_exist_are_blank_not_nan(tmp_path):
    tensors = [{"image": torch.stack([torch.ones(6, 5), torch.zeros(6, 5)]), "label": torch.zeros(1, 6, 5), "key": "a"}]
    evaluate(tmp_path, Loaded(tensors))
    row, text = read_rows(tmp_path)[0], (tmp_path / "metrics.json").read_text()
    assert (row["dice"], row["recall"], row["precision"], row["hd95"]) == ("1.000000", "", "", "")
    assert json.loads(text)["scores"]["hd95"] is None and "NaN" not in text


def test_dice_of_a_class_is_given_for_all_cases_and_for_those_that_hold_it():
    confusion = torch.tensor([[[6, 0], [0, 0]], [[4, 1], [1, 2]]])  # no lesion and none found: 1; the other: 2/3
    [row] = class_rows(confusion, torch.full((2, 2, 1), math.nan), ["background", "lesion"])
    assert (row["dice"], row["dice_where_present"]) == pytest.approx((5 / 6, 2 / 3)) and row["cases"] == 1


def one_hot(classes, *rows):
    """An item's logits (K, 2, 4) that predict the classes in ``rows``."""
    return torch.nn.functional.one_hot(torch.tensor(rows), classes).permute(2, 0, 1).float()


def test_a_class_that_no_reference_holds_is_told(tmp_path, caplog):
    """Class 2 is in no mask. Case a: Dice of class 1 is 2 * 1 / 4, class 2 is not predicted: 1. Case b: class 1 is
    2 * 2 / 6, class 2 is predicted: 0. Mean: (3/4 + 1/3) / 2 = 0.542; of class 1 alone (1/2 + 2/3) / 2 = 0.583."""
    tensors = [
        {"key": "a", "image": one_hot(3, [0, 1, 1, 0], [0] * 4), "label": torch.tensor([[[1, 1, 0, 0], [0] * 4]])},
        {"key": "b", "image": one_hot(3, [1, 1, 0, 0], [2, 0, 0, 0]), "label": torch.tensor([[[1] * 4, [0] * 4]])},
    ]
    evaluate(tmp_path, Loaded(tensors), 3, class_names=["background", "disc", "vessel"])
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["scores"]["mean_dice"] == pytest.approx((3 / 4 + 1 / 3) / 2)
    assert summary["absent_classes"] == [2] and summary["mean_dice_without_absent"] == pytest.approx(7 / 12)
    assert (summary["classes"][1]["cases"], summary["classes"][1]["dice"]) == (0, 0.5)
    told = (
        "class 2 (vessel) is in no reference mask of these cases and counts 1 where it is not predicted: "
        "without it mean_dice is 0.583 instead of 0.542"
    )
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [told]
    assert f"Note: {told}." in (tmp_path / "report.html").read_text()


def test_a_folder_that_takes_no_results_is_told_before_anything_is_scored(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"results_dir .*out cannot be written \(Not a directory\)"):
        evaluate(tmp_path / "file" / "out", Loaded([{"key": "a"}]))  # no image: it could not be scored


def test_nothing_is_told_where_every_class_is_in_a_reference(tmp_path, caplog):
    evaluate(tmp_path, a_dataset(classes=3), 3)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["absent_classes"] == [] and not caplog.records
    assert summary["mean_dice_without_absent"] == pytest.approx(summary["scores"]["mean_dice"])
    assert "in no reference mask" not in (tmp_path / "report.html").read_text()


def test_slices_of_a_volume_are_one_case(tmp_path):
    dataset = a_dataset(count=7)
    for n, item in enumerate(dataset.data[:5]):
        item |= {"volume": "v1" if n < 3 else "v2", "slice": str(n)}
    evaluate(tmp_path, dataset)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    image, label = (torch.stack([t[key] for t in dataset.tensors]) for key in ("image", "label"))
    tables = metrics.confusion_counts(image.argmax(1), label[:, 0], 2)
    expected = torch.stack([tables[:3].sum(0), tables[3:5].sum(0), tables[5], tables[6]])
    assert summary["scores"]["mean_dice"] == pytest.approx(metrics.image_dice(expected).mean().item())
    assert (summary["images"], summary["volumes"], summary["cases"], summary["distance_unit"]) == (7, 2, 4, "px")
    with open(tmp_path / "per_volume.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["volume"], row["slices"]) for row in rows] == [("v1", "3"), ("v2", "2")]
    assert read_confusion(tmp_path / "confusion.csv") == dict(zip(["v1", "v2", "case_5", "case_6"], expected.tolist()))
    assert [float(row["dice"]) for row in rows] == pytest.approx(metrics.image_dice(expected[:2]).tolist(), abs=1e-6)
    assert len(read_rows(tmp_path)) == 7 and "2 volumes of slices" in (tmp_path / "report.html").read_text()
    evaluate(tmp_path, a_dataset(), overwrite=True)
    assert not (tmp_path / "per_volume.csv").exists()


def test_another_evaluation_is_kept_unless_overwriting(tmp_path):
    dataset = a_dataset()
    evaluator = evaluate(tmp_path, dataset)
    before = (tmp_path / "per_image.csv").read_bytes()
    with pytest.raises(InputError, match="--overwrite true"):
        evaluate(tmp_path, dataset, network=torch.nn.Softmin(dim=1))
    assert (tmp_path / "per_image.csv").read_bytes() == before
    evaluate(tmp_path, dataset, network=torch.nn.Softmin(dim=1), overwrite="true")
    assert (tmp_path / "per_image.csv").read_bytes() != before
    evaluator.run()  # the same object again, as in federated rounds
    assert (tmp_path / "per_image.csv").read_bytes() == before


def test_without_cases_no_image_is_shown(tmp_path):
    """Pictures of patients may be wanted in no file: those of an evaluation before go as well."""
    evaluate(tmp_path, a_dataset())
    evaluate(tmp_path, a_dataset(), cases=0, overwrite=True)
    assert {path.name for path in tmp_path.rglob("*.png")} == {"confusion.png"}
    assert "All 0 cases" not in (tmp_path / "report.html").read_text()


def test_pictures_show_the_prediction_that_was_scored(tmp_path):
    dataset = a_dataset()
    evaluator = evaluate(tmp_path, dataset)
    handler = EvaluationResults(str(tmp_path / "b"), 2, score_size="network")
    handler.start(evaluator)
    evaluator.state.batch = {"key": ["case_4"]}
    evaluator.state.output = {"pred": dataset[4]["image"][None], "label": dataset[4]["label"][None]}
    handler.collect(evaluator)
    case = handler.case(0, 0.5, dataset[4], "case_4.png")
    assert torch.equal(torch.as_tensor(case.predicted.copy()), dataset[4]["image"].argmax(0).to(torch.uint8))


def test_pictures_show_the_files_where_the_files_are_scored(tmp_path):
    """A portrait photograph stays one, whatever the network's size."""
    rng, photo, mask = np.random.default_rng(0), tmp_path / "photo.png", tmp_path / "mask.png"
    Image.fromarray(rng.integers(0, 256, (34, 20, 3), dtype=np.uint8)).save(photo)
    Image.fromarray(rng.integers(0, 3, (34, 20), dtype=np.uint8)).save(mask)
    files = {"image": str(photo), "label": str(mask), "key": "photo"}
    seen = {"image": torch.rand(3, 16, 16), "label": torch.zeros(1, 16, 16, dtype=torch.uint8), "key": "photo"}
    dataset = Loaded([seen])
    dataset.data = [files]
    handler = EvaluationResults(str(tmp_path / "results"), 3)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1),
        network=torch.nn.Identity(),
        val_handlers=[handler],
        decollate=False,
    ).run()
    case = handler.case(0, 0.5, seen, "photo.png")
    assert np.array_equal(pictures.to_rgb(case.image), np.asarray(Image.open(photo)))
    assert np.array_equal(case.reference.T, np.asarray(Image.open(mask)))
    assert np.array_equal(case.predicted, resize_plane(seen["image"], (20, 34)).argmax(0))
    width, height = Image.open(tmp_path / "results" / "overlays" / "worst_1_photo.png").size
    tile = round(384 * 20 / 34)
    assert 3 * tile < width < 3 * 384 and height > 384


def test_cases_are_chosen_by_dice_and_never_twice():
    dice = torch.tensor([0.9, 0.1, 0.5, 0.4, 0.6, 0.8, 1.0, 1.0, 0.0, 0.7])
    lesion = torch.tensor([True] * 6 + [False] * 2 + [False, True])
    chosen = choose_cases(dice, lesion, 2)
    assert chosen == {"best": [0, 5], "median": [4, 2], "worst": [8, 1]}
    assert choose_cases(dice[:1], lesion[:1], 4) == {"worst": [0]}
    for count in range(1, 12):
        indices = sum(choose_cases(dice, lesion, count).values(), [])
        assert len(indices) == len(set(indices)) <= 10
