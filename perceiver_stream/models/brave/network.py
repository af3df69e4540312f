"""BraVe: a narrow view of a clip predicts a broad one, and the broad one the narrow.

Source: Broaden Your Views for Self-Supervised Video Learning, 2103.16559; google-deepmind/brave.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.brave.config import Config
from perceiver_stream.models.tsm_resnet import ResNetV2, TowerOutput
from perceiver_stream.nn.debiased_batch_norm import NormMode, batch_norm
from perceiver_stream.nn.layers import Linear, haiku_normal
from perceiver_stream.nn.losses.cosine_regression import bootstrap_regression

NARROW, BROAD_VIDEO, BROAD_AUDIO = VIEWS = ("narrow_video", "broad_video", "broad_audio")
TRAIN = NormMode(is_training=True)
EVAL = NormMode(is_training=False)


class Projected(NamedTuple):
  """Projection z and prediction h of one view, both `[B, D]`."""

  z: Float[Array, "B D"]
  h: Float[Array, "B D"]


class Loss(NamedTuple):
  """Results besides the loss.

  Attributes:
    terms: Losses by name, `"broad_video_to_narrow"`, `"narrow_to_broad_video"`, ...; the loss is
      their mean.
    narrow: Projection and prediction of the narrow view, as in the first pair.
    features: Of all towers, by view.
  """

  terms: dict[str, Float[Array, ""]]
  narrow: Projected
  features: dict[str, Float[Array, "B C"]]


class Brave(NamedTuple):
  """BraVe as pure functions of parameters and of the state of its batch norms.

  Views are `{"narrow_video": [B, T, H, W, 3], "broad_video": [B, T', h, w, 3], "broad_audio":
  [B, F, M]}`: pixels RGB about [0, 1], log-mel spectrograms; those of the config are needed.

  Attributes:
    init: `(rng, views) -> (params, state)`.
    embed: `(params, state, views, mode=EVAL) -> ({view: TowerOutput}, state)`, of the views given.
    project: `(params, state, features, mode=EVAL) -> (Projected, state)`.
    loss: `(params, state, views, mode=TRAIN, stop_gradient=True, valid=None) -> (loss, (Loss,
      state))`; rows with `valid` False are in no term, but in batch norms. The state passes through the narrow tower, then for each broad view through its tower, the head of
      its features and that of the narrow ones.
    config: Its config.
  """

  init: Callable[..., tuple[PyTree, PyTree]]
  embed: Callable[..., tuple[dict[str, TowerOutput], PyTree]]
  project: Callable[..., tuple[Projected, PyTree]]
  loss: Callable[..., tuple[Array, tuple[Loss, PyTree]]]
  config: Config


class _Network:
  """The modules."""

  def __init__(self, config: Config):
    self.towers = {NARROW: ResNetV2(config.video, name=NARROW)}
    if config.broad_video:
      self.towers[BROAD_VIDEO] = ResNetV2(config.video, name=BROAD_VIDEO)
    if config.broad_audio:
      self.towers[BROAD_AUDIO] = ResNetV2(config.audio, name=BROAD_AUDIO)
    self.head = _Head(config, name="head")

  def embed(self, views: Mapping[str, Array], mode: NormMode = EVAL) -> dict[str, TowerOutput]:
    """Returns the towers' outputs for the views that are given."""
    return {name: self._tower(name, views, mode) for name in VIEWS if name in views}

  def loss(
    self,
    views: Mapping[str, Array],
    mode: NormMode = TRAIN,
    stop_gradient: bool = True,
    valid: Bool[Array, " B"] | None = None,
  ) -> tuple[Array, Loss]:
    """Returns the mean of two terms for each broad view, and their parts."""
    pair = partial(bootstrap_regression, stop_gradient=stop_gradient, valid=valid)
    features = {NARROW: self._tower(NARROW, views, mode).features}
    terms, first = {}, None
    for name in list(self.towers)[1:]:
      features[name] = self._tower(name, views, mode).features
      broad = self.head(features[name], mode)
      narrow = self.head(features[NARROW], mode)
      one, other = f"{name}_to_narrow", f"narrow_to_{name}"
      terms[one] = pair(broad.h, narrow.z)
      terms[other] = pair(narrow.h, broad.z)
      first = first or narrow
    assert first is not None
    return jnp.mean(jnp.stack(list(terms.values()))), Loss(terms, first, features)

  def _tower(self, name: str, views: Mapping[str, Array], mode: NormMode) -> TowerOutput:
    if name not in views or name not in self.towers:
      raise ValueError(
        f"brave: view '{name}' is missing; got {sorted(views)}, and the model's are "
        f"{sorted(self.towers)}. Give all of the model's, or change broad_video and broad_audio."
      )
    view = views[name]
    return self.towers[name](view[:, None, ..., None] if name == BROAD_AUDIO else view, mode)


class _Head(hk.Module):
  """Projector and predictor, shared by all views."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(self, features: Float[Array, "B C"], mode: NormMode) -> Projected:
    """Returns z = projector(features) and h = predictor(z)."""
    z = self._mlp(features, mode, "projector")
    z = batch_norm(z, mode, name="projector_norm_1") if self.config.norm_last else z
    return Projected(z, self._mlp(z, mode, "predictor"))

  @hk.name_like("__call__")
  def _mlp(self, x: Float[Array, "B C"], mode: NormMode, name: str) -> Float[Array, "B D"]:
    linear = lambda x, i, dim: Linear(dim, w_init=haiku_normal(), name=f"{name}_linear_{i}")(x)  # noqa: E731
    x = linear(x, 0, self.config.hidden_dim)
    x = jax.nn.relu(batch_norm(x, mode, name=f"{name}_norm_0"))
    return linear(x, 1, self.config.output_dim)


def build(config: Config) -> Brave:
  """Returns BraVe as pure functions.

  Raises:
    ValueError: A size does not fit another; see `Config.validate`.
  """
  config.validate()

  def transformed() -> tuple[Callable, tuple[Callable, ...]]:
    network = _Network(config)
    return lambda views: network.loss(views), (network.embed, network.head, network.loss)

  init, (embed, project, loss) = hk.multi_transform_with_state(transformed)

  def loss_with_state(params: PyTree, state: PyTree, views: Mapping[str, Array], *args, **kwargs):
    (value, parts), state = loss(params, state, None, views, *args, **kwargs)
    return value, (parts, state)

  return Brave(
    init=lambda rng, views: init(rng, views),
    embed=lambda params, state, views, mode=EVAL: embed(params, state, None, views, mode),
    project=lambda params, state, features, mode=EVAL: project(params, state, None, features, mode),
    loss=loss_with_state,
    config=config,
  )
