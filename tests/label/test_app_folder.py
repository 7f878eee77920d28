# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The app folder of a server, without a server: what is copied, what is set, what is refused."""

import json
import subprocess
import sys
from argparse import Namespace

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser, ReferenceResolver

from bundle.label import default_app, settings_of, studies_folder
from bundle.label.app_folder import Settings, build_app, model_name
from bundle.label.server import Server, free_port
from bundle.label_loop_curve import Row, draw, means, write_rows
from scripts.errors import InputError
from scripts.files import atomic_save
from scripts.handlers import StrictCheckpointLoader
from scripts.networks import CoarseRefined, LESSNet, UNet
from tests.folders import pairs, save
from tests.test_configs import OVERLAYS, walk
from tests.tiny import ROOT


def config(app, name="train.json") -> dict:
    return json.loads((app / "model" / model_name(app) / "configs" / name).read_text())


def shown_names(app) -> list:
    """The names of the classes that a client is given."""
    return list(config(app, "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"].values())


def test_an_app_holds_the_bundle_and_works_alone(tmp_path):
    app = tmp_path / "my app"
    build_app(app, Settings(values=["image_size=64", "network_def#dropout=0.1"]))
    model = app / "model" / model_name(app)
    assert model.name.endswith("_segmentation") and (app / "main.py").is_file() and (app / "lib").is_dir()
    assert (model / "models" / "model.pt").read_bytes() == (ROOT / "models" / "model.pt").read_bytes()
    assert (model / "scripts" / "hosting.py").is_file() and not list(app.rglob("__pycache__"))
    for name in ("train.json", "inference.json"):
        assert config(app, name)["image_size"] == 64 and config(app, name)["network_def"]["dropout"] == 0.1
    assert not any(str(ROOT) in path.read_text() for path in model.rglob("*.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["my app"]


def test_overlays_and_names_of_classes(tmp_path):
    overlays = [ROOT / "configs" / "methods" / "mean_teacher.yaml", ROOT / "configs" / "networks" / "unet.yaml"]
    classes = ["vessel", "lesion"]
    build_app(tmp_path / "a", Settings(overlays=overlays, values=["num_classes=3"], classes=classes))
    assert config(tmp_path / "a")["method"]["_target_"] == "scripts.methods.MeanTeacher"
    assert config(tmp_path / "a", "inference.json")["network_def"]["_target_"] == "scripts.networks.UNet"
    assert "method" not in config(tmp_path / "a", "inference.json")
    output = config(tmp_path / "a", "metadata.json")["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {"0": "background", "1": "vessel", "2": "lesion"} and output["num_channels"] == 3


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_with_every_overlay_all_that_the_configs_refer_to_is_there(tmp_path, overlay):
    if "algorithm" in ConfigParser.load_config_file(overlay):
        with pytest.raises(InputError, match=f"{overlay.name}: nothing in .* reads its algorithm: leave it out"):
            build_app(tmp_path / "app", Settings(overlays=[overlay]))
        assert not list(tmp_path.iterdir())
        return
    build_app(tmp_path / "app", Settings(overlays=[overlay]))
    parsers = {name: ConfigParser(config(tmp_path / "app", name)) for name in ("train.json", "inference.json")}
    for parser in parsers.values():
        parser.update({"bundle_root": str(tmp_path), "device": "cpu"})
        texts = [text for text in walk(parser.config) if isinstance(text, str)]
        texts += [text[1:] for text in texts if text.startswith("%")]
        named = {name for text in texts for name in ReferenceResolver.match_refs_pattern(text)}
        assert [name for name in named if name not in parser] == []
    parsers["train.json"]["datalist"] = {"training": [{}], "unlabeled": [{}]}  # as the application hands it over
    training, inference = parsers["train.json"].get_parsed_content, parsers["inference.json"].get_parsed_content
    assert training("method").deployed.state_dict().keys() == inference("network").state_dict().keys()
    assert training("train#trainer#network").training and len(training("optimizer").param_groups) == 1


def test_an_overlay_goes_on_from_another_one_and_settings_from_both(tmp_path):
    (tmp_path / "deep.yaml").write_text(
        "coarse_refined#dropout: '@share#inner'\nshare: {inner: '@portion'}\nportion: 0.25\n", encoding="utf-8"
    )
    (tmp_path / "unread.yaml").write_text("portions: 0.25\n", encoding="utf-8")
    overlays = [ROOT / "configs" / "methods" / "crii_net.yaml", tmp_path / "deep.yaml"]
    build_app(tmp_path / "app", Settings(overlays=overlays, values=["coarse_refined#width=16"]))
    for name in ("train.json", "inference.json"):
        made = config(tmp_path / "app", name)
        assert made["coarse_refined"]["width"] == 16 and made["coarse_refined"]["dropout"] == "@share#inner"
        assert made["share"] == {"inner": "@portion"} and made["portion"] == 0.25
    with pytest.raises(InputError, match="unread.yaml: nothing in .* reads its portions"):
        build_app(tmp_path / "other", Settings(overlays=[*overlays, tmp_path / "unread.yaml"]))


def test_weights_bring_their_size_network_and_names(tmp_path):
    atomic_save(tmp_path / "model.pt", UNet(1, 2).state_dict())
    names = ["background", "polyp"]
    parameters = {"image_size": [96, 64], "in_channels": 1, "num_classes": 2, "class_names": names}
    network = {"_target_": "scripts.networks.UNet", "in_channels": "@in_channels", "out_channels": "@num_classes"}
    record = {"parameters": parameters, "definitions": {"network_def": network}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    build_app(tmp_path / "app", Settings(weights=tmp_path / "model.pt"))
    made = config(tmp_path / "app", "inference.json")
    assert (made["image_size"], made["in_channels"], made["network_def"]) == ([96, 64], 1, network)
    assert shown_names(tmp_path / "app") == made["class_names"] == names
    build_app(tmp_path / "other", Settings(weights=tmp_path / "model.pt", classes=["bleeding"]))
    assert shown_names(tmp_path / "other") == config(tmp_path / "other")["class_names"] == ["background", "bleeding"]
    build_app(tmp_path / "third", Settings(overlays=[ROOT / "configs" / "data" / "dsb2018.yaml"]))
    assert shown_names(tmp_path / "third") == ["background", "nucleus"]


def test_without_weights_for_its_network_an_app_starts_with_random_ones_that_load(tmp_path, caplog):
    """The server's inference and its trainings load them strictly."""
    build_app(tmp_path / "app", Settings(values=["num_classes=3"], classes=["vessel", "lesion"]))
    assert "it starts with random ones, whose masks mean nothing before a training" in caplog.text
    StrictCheckpointLoader(str(next((tmp_path / "app" / "model").glob("*/models/model.pt"))), LESSNet(3, 3))()


def test_weights_that_do_not_fit_the_app_are_refused(tmp_path):
    with pytest.raises(InputError, match="has 2 classes, the network 3: pass --set num_classes=2"):
        build_app(tmp_path / "app", Settings(weights=ROOT / "models" / "model.pt", values=["num_classes=3"]))
    with pytest.raises(InputError, match="does not fit the network: .*use the network_def it was trained with"):
        unet = [ROOT / "configs" / "networks" / "unet.yaml"]
        build_app(tmp_path / "app", Settings(weights=ROOT / "models" / "model.pt", overlays=unet))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (Settings(values=["imagesize=64"]), "no config has imagesize"),
        (Settings(values=["image_size"]), "a key of configs/train.json, such as image_size"),
        (Settings(values=["image_size=[1"]), "a key of configs/train.json, such as image_size"),
        (Settings(values=["plane=coronal"]), "--set plane: the server cuts volumes by their spacing"),
        (Settings(classes=["a", "b"]), "names 2 classes, but num_classes is 2"),
        (Settings(overlays=[ROOT / "nothing.yaml"]), "is not a file"),
        (Settings(weights=ROOT / "nothing.pt"), "no checkpoint"),
        (Settings(weights=ROOT / "README.md"), "not a readable checkpoint"),
    ],
)
def test_wrong_settings_are_refused_and_leave_nothing(tmp_path, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        build_app(tmp_path / "app", settings)
    assert not list(tmp_path.iterdir())


def test_an_overlay_adds_to_a_section_as_in_a_run_and_to_a_list_not_at_all(tmp_path):
    methods = ROOT / "configs" / "methods"
    overlays = [methods / "fixmatch.yaml", ROOT / "configs" / "losses" / "batch_dice.yaml"]
    build_app(tmp_path / "app", Settings(overlays=overlays))
    whole = ConfigParser()
    whole.read_config([str(ROOT / "configs" / "train.json"), *map(str, overlays)])
    assert config(tmp_path / "app")["method"] == whole["method"] and whole["method"]["loss"]["batch_dice"] is True
    assert "method" not in config(tmp_path / "app", "inference.json")
    (tmp_path / "more.yaml").write_text("+train#handlers: []\n")
    with pytest.raises(InputError, match="more.yaml: .train#handlers adds to a list.*the whole list as train#handlers"):
        build_app(tmp_path / "other", Settings(overlays=[tmp_path / "more.yaml"]))


def test_an_overlay_may_refer_to_what_training_alone_has(tmp_path):
    (tmp_path / "odd.yaml").write_text("in_channels: '@seed'\n")
    build_app(tmp_path / "app", Settings(overlays=[tmp_path / "odd.yaml"], values=["seed=3"]))
    inference = config(tmp_path / "app", "inference.json")
    assert inference["in_channels"] == "@seed" and inference["seed"] == config(tmp_path / "app")["seed"]


def test_weights_of_a_wrapped_network_want_its_overlay(tmp_path):
    wrapper = {"_target_": "scripts.networks.CoarseRefined", "network": "@network_def"}
    weights = tmp_path / "model.pt"
    atomic_save(weights, CoarseRefined(LESSNet(3, 2)).state_dict())
    parameters = {"image_size": 64, "in_channels": 3, "num_classes": 2}
    definitions = {"network_def": {"_target_": "scripts.networks.LESSNet"}, "coarse_refined": wrapper}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": parameters, "definitions": definitions}))
    with pytest.raises(InputError, match="CoarseRefined around the network: add the --overlay .* holds coarse_refined"):
        build_app(tmp_path / "app", Settings(weights=weights))
    overlay = ROOT / "configs" / "networks" / "coarse_refined.yaml"
    build_app(tmp_path / "app", Settings(weights=weights, overlays=[overlay]))


def test_an_app_that_is_there_is_kept(tmp_path):
    build_app(tmp_path / "app", Settings())
    with pytest.raises(InputError, match="keeps the settings it was made with"):
        settings_of(Namespace(weights="", classes="", overlay=[], set=["image_size=32"])).refuse_for(tmp_path / "app")
    settings_of(Namespace(weights="", classes="", overlay=[], set=[])).refuse_for(tmp_path / "app")
    with pytest.raises(InputError, match="exists and is no app"):
        build_app(tmp_path / "app", Settings())


def test_studies_must_hold_the_images_themselves(tmp_path):
    save(tmp_path / "images" / "a.png", pairs(1)[0][0])
    with pytest.raises(InputError, match="images has some"):
        studies_folder(str(tmp_path))
    with pytest.raises(InputError, match="is not a folder"):
        studies_folder(str(tmp_path / "none"))
    folder = studies_folder(str(tmp_path / "images"))
    assert default_app(folder) != default_app(tmp_path) and default_app(folder).parent.parent.name == "output"


def test_a_port_in_use_is_told(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen on 127.0.0.1"):
            Server(tmp_path, tmp_path, port=taken.getsockname()[1]).__enter__()


def test_a_port_or_host_that_cannot_be_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot listen on 127.0.0.1:70000"):
        Server(tmp_path, tmp_path, port=70000).__enter__()
    with pytest.raises(InputError, match="cannot listen on nowhere.invalid:0"):
        free_port("nowhere.invalid")


def test_one_channel_is_described_as_one(tmp_path):
    build_app(tmp_path / "app", Settings(values=["in_channels=1"]))
    image = config(tmp_path / "app", "metadata.json")["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == len(image["channel_def"]) == 1 and image["format"] != "RGB"


def test_dice_of_volumes(tmp_path):
    learning = pytest.importorskip("bundle.label.app.lib.learning", exc_type=ImportError)
    build_app(tmp_path / "app", Settings())
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:5, 1:4, :2] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.roll(mask, 1, axis=2), np.eye(4)), tmp_path / "b.nii.gz")
    agreement = learning.DiceAgreement(tmp_path / "app" / "model" / model_name(tmp_path / "app"))
    assert agreement.dice(str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz")) == 0.5


def test_without_monai_label_the_command_says_what_to_do(tmp_path):
    pytest.importorskip("monai")
    from importlib.util import find_spec

    if find_spec("monailabel"):
        pytest.skip("MONAI Label is installed here")
    save(tmp_path / "a.png", pairs(1)[0][0])
    command = [sys.executable, "-m", "bundle", "label", "--studies", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "make label STUDIES=" in done.stderr and "Traceback" not in done.stderr


def test_the_curve_of_a_loop(tmp_path):
    rows = [
        Row(order, seed, n, 4 + 4 * n, 0.1 * n + 0.1 * seed, 1.0, 2.0, 0.1, "a b")
        for order in ("random", "uncertainty")
        for seed in (0, 1)
        for n in range(3)
    ]
    assert means(rows, "random") == ([4, 8, 12], [pytest.approx(5), pytest.approx(15), pytest.approx(25)])
    write_rows(rows, tmp_path / "curve.csv")
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert len(lines) == 13 and lines[1] == "random,0,0,4,0.0000,1.0,2.0,0.1,a b"
    draw(rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
