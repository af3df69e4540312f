"""Augmentations, log-mel, sampling and SimCLR's loss equal the released programs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden, files

from perceiver_stream.nn.augment import colour, crops, filters
from perceiver_stream.nn.log_mel import FRAME, log_mel, mel_matrix
from perceiver_stream.nn.losses.nt_xent import nt_xent
from perceiver_stream.streams import sampling

each_case = pytest.mark.parametrize("golden", files("brave_inputs"))


def check_images(golden: Golden) -> None:
  video = jnp.asarray(golden["inputs/video"])
  for name in golden.part("outputs/blur/"):
    kernel, sigma = re.fullmatch(r"k(\d+)_s([\d.]+)", name).groups()  # type: ignore[union-attr]
    found = filters.blur(video[:1], float(sigma), int(kernel))[0]
    golden.close(f"outputs/blur/{name}", found)
  for side in golden.part("inputs/randconv/kernel"):
    kernel = jnp.asarray(golden[f"inputs/randconv/kernel{side}"])
    golden.close(f"outputs/randconv/k{side}", filters.convolve(video, kernel))
  for name in golden.part("outputs/resize_bilinear_"):
    height, width = map(int, name.split("x"))
    golden.close(f"outputs/resize_bilinear_{name}", crops.resize(video, height, width))
  for name in golden.part("outputs/resize_min_"):
    golden.close(f"outputs/resize_min_{name}", crops.resize_shorter(video, int(name)))


def check_colour(golden: Golden) -> None:
  factors, x = (
    golden.about["hyperparameters"]["colour_factors"],
    jnp.asarray(golden["inputs/video"]),
  )
  whole = colour.adjust_colour(x, **factors)
  golden.close("outputs/colour/brightness", x := x + factors["brightness"])
  golden.close("outputs/colour/saturation", x := colour.adjust_saturation(x, factors["saturation"]))
  golden.close("outputs/colour/contrast", x := colour.adjust_contrast(x, factors["contrast"]))
  x = jnp.clip(colour.adjust_hue(x, factors["hue"]), 0, 1)
  golden.close("outputs/colour/hue_clipped", x)
  golden.close("outputs/colour/hue_clipped", whole)
  golden.close("outputs/colour/grey", colour.grey(x))


def check_sound(golden: Golden) -> None:
  h = golden.about["hyperparameters"]
  rate, mels = h["sample_rate"], h["mel_bins"]
  golden.close("outputs/mel_matrix", mel_matrix(mels, FRAME // 2 + 1, rate))
  pcm = jnp.asarray(golden["inputs/pcm"])
  golden.close("outputs/log_mel", log_mel(pcm, rate_hz=rate, num_mels=mels, hop=h["fft_step"]))


def check_sampling(golden: Golden) -> None:
  about = golden.about["keys"]
  text, rest = about["outputs/linspace_starts"].split(";")
  lengths = map(int, re.findall(r"\d+", text))
  sizes = re.search(r"(\d+) windows of (\d+) frames with step (\d+)", rest)
  assert sizes
  starts = [[s.start for s in sampling.spaced_spans(n, *map(int, sizes.groups()))] for n in lengths]
  golden.close("outputs/linspace_starts", np.array(starts), 1e-12)
  found = []
  for numbers in re.findall(r"\((\d+,\d+,\d+,\d+)\)", about["outputs/synced_indices"]):
    start, stop, length, other = map(int, numbers.split(","))
    found.append(sampling.synced_span(sampling.Span(start, stop), length, other)[:2])
  golden.close("outputs/synced_indices", np.array(found), 1e-12)


def check_simclr(golden: Golden) -> None:
  temperature = golden.about["hyperparameters"]["simclr_temperature"]
  text = golden.about["keys"]["outputs/simclr_*_unnormalised"]
  scale = float(re.search(r"scaled by ([\d.]+)", text)[1])  # type: ignore[index]
  for suffix, factor in (("", 1.0), ("_unnormalised", scale)):
    hidden = jnp.asarray(golden["inputs/simclr_hidden"])

    def loss(x, factor=factor, normalize=not suffix):
      return nt_xent(*jnp.split(factor * x, 2), temperature=temperature, normalize=normalize)

    (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(hidden)
    golden.close(f"outputs/simclr_loss{suffix}", value)
    golden.close(f"outputs/simclr_logits_ab{suffix}", logits)
    golden.close(f"outputs/simclr_grad{suffix}", gradient)


@each_case
def test_every_array(golden):
  for check in (check_images, check_colour, check_sound, check_sampling, check_simclr):
    check(golden)
  golden.all_compared()


@each_case
@pytest.mark.parametrize("side", range(1, 12, 2))
def test_random_kernels_have_the_released_deviation(golden, side):
  measured = golden.about["random_convolution"]["measured_std_absmax_target"]
  if str(side) not in measured:
    pytest.skip("this file has measured other kernels")
  *_, target = measured[str(side)]
  kernels = jax.vmap(lambda k: filters.draw_kernel(k, jnp.asarray(side)))(
    jax.random.split(jax.random.key(side), 200)
  )
  inside = np.asarray(kernels)[:, 5 - side // 2 : 6 + side // 2, 5 - side // 2 : 6 + side // 2]
  assert np.count_nonzero(kernels) == inside.size
  assert inside.std() == pytest.approx(target, rel=0.05)
  assert np.abs(inside).max() <= 2 * target / 0.8796 * 1.001
