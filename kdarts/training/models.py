"""Saved networks and the summary beside them."""

import pathlib

import keras

from kdarts.genotypes.files import write_with
from kdarts.networks.models import load_model
from kdarts.training.files import read_json

__all__ = ["load_model", "save_model", "summary_beside"]


def save_model(network: keras.Model, path) -> None:
    """Saves a network as `.keras`, atomically."""
    # A full disk makes the writers of zip archives and HDF5 raise these errors.
    write_with(path, network.save, (ValueError, RuntimeError))


def summary_beside(path) -> dict:
    """Returns the `summary.json` in the folder of a model, or {} if there is none."""
    summary = pathlib.Path(path).with_name("summary.json")
    return read_json(summary) if summary.is_file() else {}
