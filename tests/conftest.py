"""What the tests share: quiet TensorFlow, the step's threads, and the reference arrays where they are present."""

import json
import pathlib

import numpy as np
import pytest

from kdarts.cli.quiet import start_tensorflow

start_tensorflow()

from kdarts.run.threads import configure_threads  # noqa: E402

configure_threads()

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT.parent / "shared" / "golden"
TFDS = ROOT.parent / "shared" / "data" / "tfds"


@pytest.fixture
def golden():
    """Reads a file of reference arrays or tables by its name; skips the test where it is absent."""

    def read(name: str):
        path = GOLDEN / name
        if not path.is_file():
            pytest.skip(f"reference file {name} is not here")
        return json.loads(path.read_text()) if path.suffix == ".json" else dict(np.load(path, allow_pickle=False))

    return read


@pytest.fixture
def cifar10_dir():
    """Where CIFAR-10 lies, prepared for TensorFlow Datasets; skips the test where it is absent."""
    if not (TFDS / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not here")
    return str(TFDS)


def state_dict(arrays: dict, prefixes=("param:", "buf:")) -> dict:
    """The weights in a reference file, under their own names."""
    return {key.split(":", 1)[1]: value for key, value in arrays.items() if key.startswith(prefixes)}
