"""Studies: valid studies are accepted, and invalid ones raise a one-line error before any work."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import iscam
from helpers.errors import refused
from helpers.repository import ROOT
from helpers.studies import OWN_MODEL
from iscam.study.spec import read_study

FILES = sorted((ROOT / "studies").glob("*.yaml"))


def nested(levels: int) -> dict:
    """Nested dictionaries that share their values, so that their text would be huge."""
    value: dict = {}
    for _ in range(levels):
        value = dict.fromkeys("abcdefghi", value)
    return value


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_repository_study_is_valid(file):
    study = read_study(file)
    assert replace(study) == study
    assert iscam.Study(**json.loads(json.dumps(asdict(study)))) == study


def test_study_has_defaults():
    study = iscam.Study()
    assert (study.models, study.data, study.count, study.seed) == (("menagerie/resnet",), "menagerie", 64, 0)
    assert study.weights == {} and study.precision == "fp32"


BAD = [
    ({"methods": {"no_cam": {}}}, "is_cam"),
    ({"methods": {"is_cam": {"method": "no_cam"}}}, "unknown method of is_cam"),
    ({"methods": {"x": {"method": ["is_cam"]}}}, "unknown method of x"),
    ({"methods": {"x": {"method": {"a": "b"}}}}, "unknown method of x"),
    ({"methods": {1: {"method": "is_cam"}}}, "must be text, not 1"),
    ({"methods": {True: {"method": "is_cam"}}}, "must be text, not True"),
    ({"methods": {None: {"method": "is_cam"}}}, "must be text, not None"),
    ({"methods": {"": {"method": "is_cam"}}}, "must be text"),
    ({"methods": {}}, "an empty dict"),
    ({"methods": ["is_cam"]}, "must map names to options"),
    ({"methods": {"is_cam": 10}}, "{steps: 10}"),
    ({"methods": {"is_cam": {"step": 3}}}, "steps"),
    ({"methods": {"is_cam": {"steps": "zero"}}}, "options of is_cam: steps must be"),
    ({"methods": {"is_cam": {"steps": True}}}, "options of is_cam: steps must be"),
    ({"methods": {"is_cam": {"schedule": np.array([0.5, 1])}}}, "options of is_cam"),
    ({"methods": {"is_cam": {"schedule": float("nan")}}}, "options of is_cam"),
    ({"methods": {"is_cam": {"steps": 10**30}}}, "options of is_cam"),
    ({"methods": {"is_cam": {"schedule": nested(9)}}}, "10,000 values"),
    ({"methods": {"is_cam": {"compile": 1}}}, "compile"),
    ({"methods": {"oracle": {"steps": 3}}}, "unknown option of oracle"),
    ({"methods": {"is_cam": {"rank": 0}}}, "rank of is_cam"),
    ({"methods": {"is_cam": {"rank": [1]}}}, "rank of is_cam"),
    ({"methods": {"is_cam": {"temperature": 0}}}, "temperature of is_cam must be above 0"),
    ({"methods": {"is_cam": {"temperature": "cold"}}}, "temperature of is_cam"),
    ({"methods": {"is_cam": {"layer": ""}}}, "layer of is_cam"),
    ({"methods": {"is_cam": {"layer": ["layer4"]}}}, "layer of is_cam"),
    ({"methods": {"is_cam": {"layer": {"vgg16": "features"}}}}, "menagerie/resnet: LAYER"),
    ({"metrics": ("accuracy",)}, "insertion"),
    ({"metrics": ("win:ss_cam",)}, "win:is_cam"),
    ({"metrics": ("win",)}, "win:is_cam"),
    ({"metrics": ("insertion:grey",)}, "insertion:blur"),
    ({"metrics": ("energy:blur",)}, "valid metrics: energy, energy:single"),
    ({"metrics": ("average_drop:upper",)}, "valid metrics: average_drop, average_drop:half"),
    ({"metrics": "insertion"}, "[insertion, energy]"),
    ({"metrics": [{"win": "is_cam"}]}, "[insertion, energy]"),
    ({"metrics": []}, "[insertion, energy]"),
    ({"metrics": ("insertion", "energy", "insertion")}, "'insertion' appears 2 times"),
    ({"models": "menagerie/resnet"}, "[menagerie/resnet]"),
    ({"models": ("menagerie/resnet", "menagerie/resnet")}, "'menagerie/resnet' appears 2 times"),
    ({"models": ("resnet9000",)}, "resnet18"),
    ({"models": ("nowhere.py:net",)}, "nowhere.py"),
    ({"models": (["vgg16"],)}, "[menagerie/resnet]"),
    ({"weights": {"vgg16": None}}, "unknown model of weights 'vgg16'; valid models of weights: menagerie/resnet"),
    ({"weights": {"menagerie/resnet": nested(9)}}, "weights of menagerie/resnet"),
    ({"weights": {"menagerie/resnet": ""}}, "weights of menagerie/resnet"),
    ({"weights": "none"}, "weights must map"),
    ({"precision": "fp8"}, "bf16"),
    ({"data": "photographs", "metrics": ("mask_energy",)}, "mask_energy needs the menagerie"),
    ({"data": "photographs", "methods": {"oracle": {}}}, "oracle needs the menagerie"),
    ({"data": ""}, "data must be"),
    ({"data": nested(9)}, "data must be"),
    ({"count": 0}, "count"),
    ({"count": "010"}, "count"),
    ({"count": 1.5}, "count"),
    ({"seed": -1}, "seed"),
    ({"pixels_per_step": 0}, "pixels_per_step"),
    ({"pixels_per_step": 22.4}, "pixels_per_step"),
]


@pytest.mark.parametrize(("fields", "word"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_invalid_study_is_refused(fields, word):
    with refused(word):
        iscam.Study(**fields)


def test_entry_that_is_no_method_or_metric_is_refused(monkeypatch):
    monkeypatch.setitem(iscam.METHODS, "bad", 3)
    monkeypatch.setitem(iscam.METRICS, "bad", 3)
    with refused("METHODS['bad'] must be an iscam.Method, not int"):
        iscam.Study(methods={"bad": {}})
    with refused("METHODS['bad'] must be an iscam.Method, not int"):
        iscam.explain(iscam.load_model("menagerie/resnet"), torch.zeros(1, 3, 64, 64), method="bad")
    with refused("METRICS['bad'] must be an iscam.Metric, not int"):
        iscam.Study(metrics=("bad",))


def test_millions_of_steps_are_checked_without_a_pass():
    """Options are checked by their types, not by trying them out."""
    methods = {"ss_cam": {"samples": 10**6}, "is_cam": {"steps": 10**6, "compile": True}, "cam": {"layer": "layer4"}}
    assert set(iscam.Study(methods=methods).methods) == set(methods)


def test_study_does_not_change_with_its_arguments():
    options = {"steps": 3}
    methods = {"is_cam": options}
    study = iscam.Study(methods=methods)
    options["steps"] = 4
    methods["score_cam"] = {}
    assert study.methods == {"is_cam": {"steps": 3}}


OWN_METHOD = """
import iscam

iscam.METHODS["peak_cam"] = iscam.Method(lambda record, _: record.activations.amax((1, 2)), "Peak", "", lambda *_: 1)
"""


def test_file_of_a_users_model_may_add_methods(tmp_path, monkeypatch):
    monkeypatch.setitem(iscam.METHODS, "peak_cam", None)  # restored after the test
    del iscam.METHODS["peak_cam"]
    file = tmp_path / "own.py"
    file.write_text(OWN_METHOD + OWN_MODEL)
    study = iscam.Study((f"{file}:network",), methods={"peak_cam": {}}, metrics=("complexity",), count=1)
    frame = iscam.run_study(study, tmp_path / "results")
    assert frame["error"].tolist() == [""]


@pytest.mark.parametrize(("code", "word"), [("1 +", "SyntaxError"), ("import nowhere", "nowhere")])
def test_file_of_a_users_model_that_fails_is_refused(tmp_path, code, word):
    (tmp_path / "own.py").write_text(code)
    with refused("cannot import", word):
        iscam.Study((f"{tmp_path / 'own.py'}:network",))


def test_pickled_study_has_its_fields_only():
    study = iscam.Study()
    assert study.method_entries
    copied = pickle.loads(pickle.dumps(study))
    assert copied == study
    assert set(vars(copied)) == set(asdict(study))


TEXTS = {
    "not a mapping": ("- a\n- b\n", "must map keys to values"),
    "empty": ("", "must map keys to values"),
    "unknown key": ("methodz: {}\n", "valid keys of"),
    "duplicate method": ("methods:\n  is_cam: {}\n  is_cam: {steps: 3}\n", "line 3: the key 'is_cam' appears twice"),
    "method named by a number": ("methods: {1: {method: is_cam}}\n", "text"),
    "octal count": ("count: 010\n", "count"),
    "sexagesimal count": ("count: 1:30\n", "count"),
    "yes as a boolean": ("methods: {is_cam: {compile: yes}}\n", "compile"),
    "date": ("count: 2020-01-01\n", "count"),
    "cycle": ("methods: &a {is_cam: *a}\n", "an alias contains itself"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_invalid_study_file_is_refused(tmp_path, kind):
    text, word = TEXTS[kind]
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with refused(word):
        read_study(file)
