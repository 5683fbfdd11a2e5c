"""A model whose outputs are the levels of a feature pyramid."""

import keras


@keras.saving.register_keras_serializable("kdarts")
class Pyramid(keras.Model):
    """A functional model from images to `{"P2": ..., "P3": ...}`; level Pn is 2^n times smaller than the image.

    KerasHub's detectors and segmenters take it as their `image_encoder`.
    """

    @property
    def pyramid_outputs(self) -> dict:
        """The levels by name, finest first, as symbolic tensors (KerasHub's `FeaturePyramidBackbone`)."""
        return dict(sorted(self.output.items()))
