"""The pages that compare methods and networks on single images: their images, maps, notes and similarities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import iscam
from helpers.errors import refused
from iscam.record import forward_record
from iscam.reproduction import comparator, example_images, figures
from iscam.reproduction.method_notes import LIMITS, method_table


@pytest.fixture(scope="module")
def net() -> iscam.Network:
    return iscam.load_model("menagerie/resnet")


@pytest.fixture(scope="module")
def views(net: iscam.Network) -> dict[str, comparator.View]:
    return comparator.views({"one": net, "two": iscam.load_model("menagerie/squeezenet")}, seed=3)


# -------------------------------------------------------------------------------------------------------------- images


def test_drawings_show_the_species_of_figure_2_and_explain_their_labels(net):
    shown = example_images.examples(net, "menagerie/resnet", seed=1)
    assert [item.name.partition("-")[0] for item in shown.items] == ["Basenji", "Capuchin", "Whippet"]
    assert [net.category(int(target)) for target in shown.targets] == ["Basenji", "Capuchin", "Whippet"]
    assert shown.images.shape == (3, 3, 224, 224) and shown.origin == "drawings of the menagerie"


def test_own_image_is_explained_for_its_predicted_class(net, tmp_path):
    from PIL import Image

    Image.fromarray(iscam.menagerie.draw("Mandrill", 4).image).save(tmp_path / "own.png")
    shown = example_images.examples(net, "menagerie/resnet", 1, str(tmp_path / "own.png"))
    assert len(shown.items) == 4 and shown.origin.endswith(", and yours")
    assert shown.targets[3] == net.probabilities(shown.images[3:]).argmax()
    table = example_images.predictions(net, shown)
    assert table["image"].tolist()[3].startswith("own") and table.shape == (4, 3)
    assert table["explained class"][3] == table["predicted class"][3]


def test_drawings_replace_photographs_that_cannot_be_downloaded(net, monkeypatch):
    def offline(*arguments, **options):
        if arguments[0] == "figures":
            raise iscam.DownloadError("no network; put the file into the cache")
        return iscam.load_images(*arguments, **options)

    monkeypatch.setattr(example_images, "load_images", offline)
    items, origin = example_images.figure_items(net, "resnet18", 0)
    assert len(items) == 3 and origin.endswith("because the photographs could not be downloaded (no network)")


def test_methods_that_the_network_does_not_allow_are_named():
    net = iscam.load_model("menagerie/vgg")
    shown = example_images.examples(net, "menagerie/vgg", seed=0)
    maps, missing = example_images.maps_of(
        net, shown.images, shown.targets, ["cam", "grad_cam", "rise"], {"rise": {"masks": 8}}
    )
    assert list(maps) == ["grad_cam", "rise"] and "pooling" in missing["cam"]
    expected = iscam.explain(net, shown.images, shown.targets, "grad_cam")
    torch.testing.assert_close(maps["grad_cam"], expected)
    html = example_images.row_of_maps(net, shown, 1, maps)
    kept = iscam.confidence(net, shown.images[1:2], expected[1:2], shown.targets[1:2])[1].item()
    assert html.count("<figure") == 3 and f"keeps {kept:.3f}" in html


def test_every_method_has_a_note_and_its_cost(net):
    record = forward_record(net, iscam.load_images("menagerie", 1)[0].image)
    table = method_table(record).set_index("method")
    assert set(LIMITS) == set(iscam.METHODS) and len(table) == len(iscam.METHODS)
    assert table.loc["Score-CAM", "passes"] == 65 and table.loc["Recipro-CAM", "passes"] == 201
    assert table.loc["RISE", "passes"] == 4001


# ---------------------------------------------------------------------------------------------------------- comparator


def test_views_show_one_drawing_to_every_network(views):
    torch.testing.assert_close(views["one"].image, views["two"].image)
    assert views["one"].probabilities.sum() == pytest.approx(1)
    rows = comparator.predictions(views, "Basenji")
    assert rows["network"].tolist() == ["one", "two"]
    index = views["two"].net.categories.index("Basenji")
    assert rows["probability of Basenji"][1] == pytest.approx(float(views["two"].probabilities[index]))
    assert comparator.commonest(views) == rows["prediction"][0]
    with refused("no class 'unicorn'"):
        views["one"].class_index("unicorn")


def test_similarities_are_rank_correlations_of_every_pair(views):
    maps, missing = comparator.maps(views, ["grad_cam", "score_cam"], "Basenji")
    assert not missing
    networks, methods = comparator.between_networks(maps), comparator.between_methods(maps)
    assert list(networks) == ["Grad-CAM", "Score-CAM"] and list(methods) == ["one", "two"]
    expected = iscam.maps.rank_correlation(maps["one"]["grad_cam"], maps["two"]["grad_cam"])
    assert networks["Grad-CAM"].loc["one", "two"] == pytest.approx(expected)
    for matrix in [*networks.values(), *methods.values()]:
        assert np.allclose(np.diag(matrix), 1) and np.allclose(matrix, matrix.T)
    between = [networks[name].loc["one", "two"] for name in networks]
    assert comparator.mean_similarity(networks) == pytest.approx(np.mean(between))
    assert f"{np.mean(between):.2f} between two networks" in comparator.summary(maps)


def test_a_method_that_one_network_refuses_is_compared_among_the_others(net):
    views = comparator.views({"resnet": net, "vgg": iscam.load_model("menagerie/vgg")})
    maps, (missing,) = comparator.maps(views, ["cam", "grad_cam"], "Whippet")
    assert missing.startswith("CAM is left out for vgg: cam needs")
    assert list(maps["vgg"]) == ["grad_cam"] and list(maps["resnet"]) == ["cam", "grad_cam"]
    assert comparator.between_networks(maps)["CAM"].shape == (1, 1)
    drawn = figures.contours(views, maps, [0.25, 0.75])
    assert len(drawn.axes) == 6
    assert len(figures.matrices(comparator.between_methods(maps)).axes) == 2
