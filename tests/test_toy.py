"""The toy bilevel problem: the reported iterations, through the search's own gradients."""

import json

import numpy as np
import pytest

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.search import gradients
from kdarts.search.toy import fixed_point, run_toy
from kdarts.views.curves import draw_trajectories

REPORTED = {0: 659, 0.3: 411, 0.5: 296, 0.7: 335}


@pytest.mark.parametrize("xi", REPORTED)
def test_iterations_are_those_reported_and_the_way_that_of_the_reference(golden, xi):
    recorded = golden("toy_bilevel.json")["runs"][f"{xi:g}"]
    found = run_toy(xi)
    assert found.converged and found.iterations == recorded["iterations"] == REPORTED[xi]
    ends = recorded["alpha_end"], recorded["w_end"]
    np.testing.assert_allclose(found.path[-1], ends, rtol=0, atol=2e-6)
    for index, *point in recorded["trajectory_every_25"]:
        np.testing.assert_allclose(found.path[index], point, rtol=0, atol=5e-6)
    assert np.abs(found.path[-1] - recorded["fixed_point"]).max() < 7.5e-3
    assert fixed_point(xi) == pytest.approx(recorded["fixed_point"], abs=1e-4)


def test_finite_differences_are_exact_on_a_quadratic():
    for order in ("second", "exact"):
        assert run_toy(0.5, order).iterations == REPORTED[0.5]
    np.testing.assert_allclose(run_toy(0.5, "exact").path, run_toy(0.5).path, rtol=0, atol=1e-9)


def test_it_goes_by_the_gradient_of_the_search(monkeypatch):
    monkeypatch.setattr(gradients.FiniteDifference, "__call__", gradients.FirstOrder.__call__)
    assert run_toy(0.5).iterations == REPORTED[0]


def test_it_ends_at_its_limit_and_refuses_what_makes_no_sense():
    found = run_toy(0.5, limit=7)
    assert found.iterations == 7 and not found.converged
    for wrong in ({"xi": -1.0}, {"xi": 0.5, "learning_rate": 0.0}, {"xi": float("nan")}, {"xi": 0.5, "order": "third"}):
        with pytest.raises(KdartsError):
            run_toy(**wrong)
    with pytest.raises(KdartsError, match="out of all bounds"):
        run_toy(0.5, learning_rate=1e6)


def test_command_prints_a_line_for_each_xi_and_draws(tmp_path, capsys):
    picture = tmp_path / "toy.svg"
    assert main(["toy", "--xi=0,0.5", "--threshold=0.01", f"--to={picture}"]) == 0
    *lines, written = capsys.readouterr().out.splitlines()
    told = [json.loads(line) for line in lines]
    assert [line["xi"] for line in told] == [0, 0.5] and told[1]["fixed_point"] == 1
    text = picture.read_text("utf-8")
    assert written == str(picture) and all(word in text for word in ("w = α", "ξ = 0.5", "solution", "start"))
    for wrong in ("--xi=", "--xi=a", "--start=1", "--to=toy.bmp", "--order=first"):
        assert main(["toy", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_picture_needs_a_name_for_each_way(tmp_path):
    with pytest.raises(KdartsError, match="a name for each"):
        draw_trajectories([np.zeros((3, 2))], ["a", "b"], tmp_path / "toy.png")
