"""What a `.keras` file would build, before it is built: it may not be more than the weights in the file.

Keras makes the variables that `config.json` describes and reads their values from `model.weights.h5` afterwards. A file
of two kilobytes whose configuration asks for 10^9 units would so take gigabytes before Keras finds that their values
are missing.
"""

import json
import math
import threading
import zipfile

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import check_archive

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"

MOST_VALUES = 2**29
"""The most values of an output of a layer for one image."""


def check_model_archive(path) -> None:
    """Checks the content of a `.keras` file, and that its weights are as many as those of its model at least.

    Args:
        path: The file.

    Raises:
        KdartsError: If the file is damaged, has no configuration or no weights, or if the configuration describes more
            weights than the file has bytes for them: one for each at least, in any number format. Of a configuration
            that cannot be counted, no number may be greater than that. Also if a layer would make more than
            `MOST_VALUES` of an image.
    """
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in (_CONFIG, _WEIGHTS):
            if names.count(name) != 1:
                raise KdartsError(f"model {str(path)!r} needs one {name} in it, and has {names.count(name)}")
        room, text = archive.getinfo(_WEIGHTS).file_size, archive.read(_CONFIG)
    try:
        config = json.loads(text)
        greatest = _greatest(config)
    except (ValueError, RecursionError) as error:
        raise KdartsError(f"model {str(path)!r}: its {_CONFIG} is not JSON ({error})") from None
    found = _sizes_of(config)
    if (greatest if found is None else found[0]) > room:
        what = "a number above" if found is None else f"a model of {found[0]:,} weights, more than"
        raise KdartsError(f"model {str(path)!r}: its {_CONFIG} describes {what} the {room:,} bytes of {_WEIGHTS}")
    if found is not None and found[1] > MOST_VALUES:
        raise KdartsError(
            f"model {str(path)!r}: its {_CONFIG} describes a layer that makes {found[1]:,} numbers of an image; "
            f"allowed are {MOST_VALUES:,}, or 2 GB"
        )


def _sizes_of(config) -> tuple[int, int] | None:
    """The weights of the model of a configuration, and the values of an image's largest output of a layer.

    Returns None if the model cannot be made in this way. In a `StatelessScope`, Keras notes the shapes of variables and
    gives them no values. Each thread has its own list of such variables, so that those made here end with their thread.
    """
    found = [None]

    def build():
        with keras.StatelessScope(initialize_variables=False):
            try:
                model = keras.saving.deserialize_keras_object(config | {"compile_config": None})
                outputs = keras.tree.flatten([layer.output for layer in model.layers])
                values = [math.prod(output.shape[1:]) for output in outputs if None not in output.shape[1:]]
                weights = sum(math.prod(variable.shape) for variable in model.variables)
                found.append((weights, max(values, default=0)))
            except Exception:  # Of any kind: what the configuration asks for can fail in any layer.
                return

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    return found[-1]


def _greatest(value) -> int:
    """The greatest whole number in a configuration: of units, filters, or sides of an image."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_greatest, parts), default=value if isinstance(value, int) else 0)
