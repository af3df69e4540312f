"""Augmentations of clips on the device: pure functions of a key and a clip, the same for all its frames.

Functions with a key draw their parameters and call one without, which is exact. The same key gives
the same result. Batches: `jax.vmap` over keys and clips.
"""

from perceiver_stream.nn.augment.colour import random_colour as random_colour
from perceiver_stream.nn.augment.crops import random_crop as random_crop
from perceiver_stream.nn.augment.crops import random_flip as random_flip
from perceiver_stream.nn.augment.filters import random_blur as random_blur
from perceiver_stream.nn.augment.filters import random_convolution as random_convolution
