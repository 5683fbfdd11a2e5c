"""The data of a search: batches for the weights and for α, and what is measured on."""

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError


class SearchData:
    """The data of a search from a dataset of pairs.

    `kdarts.search_dataset` has a kind of its own, which begins at any step and knows the images. This one goes through
    the dataset once an epoch, as Keras does.

    Args:
        dataset: of `((x, y), (x_valid, y_valid))`: batches for the weights and for α.
        steps: of an epoch; None: one pass, if the dataset knows its length.

    Attributes:
        steps: of an epoch.
    """

    def __init__(self, dataset, steps: int | None = None):
        self.dataset = dataset
        if steps is None:
            steps = int(dataset.cardinality())
            if steps < 0:
                what = "has no end" if steps == tf.data.INFINITE_CARDINALITY else "does not know its length"
                raise KdartsError(f"the dataset {what}: give fit steps_per_epoch")
        self.steps = steps
        if not steps:
            raise KdartsError("the dataset is empty")

    def pairs(self, first_step: int = 0, seed: int = 0):
        """The batches from a step on, without end.

        Args:
            first_step: counted from the start of the run.
            seed: counted from that of the data; a stage of a search has its own.
        """
        endless = self.dataset.repeat()
        return endless.skip(first_step % self.steps) if first_step else endless

    def held_back(self):
        """Batches `(x, y)` to measure on: those of α, once, in order."""
        return self.dataset.take(self.steps).map(lambda train, valid: valid)

    def path_steps(self, batch_size: int) -> int:
        """Steps of one pass over the images of the weights, in batches of a size, or of the size that there is."""
        return self.steps

    def path_batches(self, batch_size: int, cutout: int | None, first_step: int = 0):
        """Batches `(x, y)` for the weights of shared paths, without end.

        Args:
            batch_size: examples in each, where the data can be batched anew.
            cutout: side of the square cut out of each image, in pixels; None: as in the search.
            first_step: counted from the start of their training.
        """
        batches = self.dataset.map(lambda train, valid: train).repeat()
        return batches.skip(first_step % self.steps) if first_step else batches

    def path_held_back(self, batch_size: int):
        """Batches `(x, y)` to compare paths on."""
        return self.held_back()


def search_data(given, steps: int | None = None) -> SearchData:
    """The data that `fit` was given, as `SearchData`.

    Args:
        given: a `SearchData`, a dataset of pairs, or one of `kdarts.search_dataset`, which carries its own.
        steps: of an epoch, for a plain dataset.

    Raises:
        KdartsError: for anything else.
    """
    own = getattr(given, "search_data", given)
    if isinstance(own, SearchData):
        return own
    spec = getattr(given, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(p, tuple) and len(p) == 2 for p in spec):
        raise KdartsError(
            "a search needs a tf.data.Dataset of ((x, y), (x_valid, y_valid)), one batch for the weights and one for α; "
            "kdarts.search_dataset makes one"
        )
    return SearchData(given, steps)
