"""`tools/mobile_study.py`: what it refuses, the networks it compares, and its table from finished trainings."""

import pytest

from kdarts.training.workdir import Workdir, write_json

SHAPE, CLASSES = (32, 32, 3), 10


@pytest.fixture
def study(tool):
    return tool("mobile_study")


@pytest.fixture
def chosen(study, tmp_path):
    path = study.uniform(SHAPE, "mb_k3_e3", 1.0)
    path.save(tmp_path / "genotype.json")
    return study.parse([f"--path={tmp_path / 'genotype.json'}", f"--workdir={tmp_path / 'study'}", "--seeds=2"])


def test_all_networks_are_within_the_limits_and_the_random_ones_as_large_as_the_found(study, chosen):
    networks = study.networks(chosen, SHAPE, CLASSES)
    assert [name for name in networks if "random" not in name and "uniform" not in name] == [
        "found",
        "MobileNetV2",
        "ResNet-8",
    ]
    assert len(networks) == 3 + 5 + 4
    assert all(one.cost.macs <= chosen.max_macs and one.cost.params <= chosen.max_params for one in networks.values())
    assert (networks["ResNet-8"].cost.macs, networks["ResNet-8"].cost.params) == (12_501_632, 78_042)
    assert (networks["found"].cost.params, networks["found"].cost.macs) == (73_442, 8_156_128)
    drawn = [one for name, one in networks.items() if name.startswith("random")]
    assert all(abs(one.cost.macs / 8_156_128 - 1) <= study.NEAR for one in drawn)
    assert len({one.architecture.choices for one in drawn} | {networks["found"].architecture.choices}) == 6
    for name, one in networks.items():
        if name.startswith("uniform"):
            blocks = dict(one.architecture.cuboid.choices)["block"]
            assert {blocks[choice] for choice in one.architecture.choices} == {name.split()[1]}


def test_a_counted_cost_is_that_of_the_network(study):
    from kdarts.auto.limits import cost_of

    one = study.candidate("uniform", study.uniform(SHAPE, "mb_k5_e3", 0.5), SHAPE, CLASSES)
    built = cost_of(one.build())
    assert (built.params, built.macs) == (one.cost.params, one.cost.macs)


def test_the_table_has_the_best_uniform_network_alone(study, chosen, monkeypatch):
    networks, held = study.networks(chosen, SHAPE, CLASSES), {"uniform mb_k5_e3": 0.9}
    for name, one in networks.items():
        for seed in range(2):
            folder = study.folder_of(chosen, name, seed)
            Workdir(folder).begin({})
            sizes = {"params": one.cost.params, "macs": one.cost.macs, "size": one.size}
            figures = {"test_accuracy": 0.5 + 0.02 * seed, "held_back_accuracy": held.get(name, 0.5)}
            write_json(folder / "summary.json", {**figures, **sizes})
    asked = []
    monkeypatch.setattr(study, "train_all", lambda _, tasks: asked.extend(tasks))
    study.conclude(chosen, list(networks))
    assert asked[:4] == [(name, 0) for name in networks if name.startswith("uniform")]
    assert len(asked) == 4 + 2 * 9
    lines = (chosen.workdir / "results.md").read_text("utf-8").splitlines()
    assert [line.split("|")[1].split("(")[0].strip() for line in lines[2:]] == [
        "found",
        "MobileNetV2",
        *(f"random {number}" for number in range(1, 6)),
        "uniform mb_k5_e3",
        "ResNet-8",
    ]
    assert "| 51.00 ± 1.41 |" in lines[2]


@pytest.mark.parametrize(("arguments", "line"), [(["--seeds=0"], "--seeds=0: allowed is 1"), (["--wrong"], "wrong")])
def test_wrong_arguments_are_refused(study, arguments, line):
    with pytest.raises(study.KdartsError, match=line):
        study.parse(["--path=x.json", *arguments])


def test_a_path_beyond_the_limits_is_refused(study, chosen):
    chosen.max_params = 70_000
    with pytest.raises(study.KdartsError, match="exceeds the limit of params"):
        study.networks(chosen, SHAPE, CLASSES)
