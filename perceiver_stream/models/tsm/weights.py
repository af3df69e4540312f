"""Published weights of TSM: names of the released state dicts."""

from perceiver_stream.models.mapping import Detected, Flat, Rule, Shape, count_of, shape_of
from perceiver_stream.models.tsm.config import Config
from perceiver_stream.models.video_resnet.weights import (
  TORCH_3D,
  TORCH_COUNTS,
  torch_linear,
  torch_norm,
)


def _image(shape: Shape) -> Shape:
  return (*shape[:2], *shape[3:])


def _conv(ours: str, conv: str, norm: str) -> list[Rule]:
  weight = Rule(f"{ours}/conv/w", f"{conv}.weight", _image, TORCH_3D)
  return [weight, *torch_norm(f"{ours}/norm", norm)]


def rules(config: Config) -> list[Rule]:
  """Returns the names in a state dict, without the wrapper's `module.`."""
  block, layer = r"tsm/layer(\d+)_(\d+)", r"base_model.layer\1.\2"
  return [
    *_conv("tsm/stem", "base_model.conv1", "base_model.bn1"),
    *_conv(f"{block}/shifted_conv1", f"{layer}.conv1.net", f"{layer}.bn1"),
    *_conv(f"{block}/conv([123])", rf"{layer}.conv\3", rf"{layer}.bn\3"),
    *_conv(f"{block}/shortcut", f"{layer}.downsample.0", f"{layer}.downsample.1"),
    *torch_linear("tsm/classifier", "new_fc"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a state dict; None if it is no TSM-ResNet of bottlenecks."""
  if "base_model.layer1.0.conv1.net.weight" not in flat:
    return None
  stages = range(1, 5)
  config = Config(
    stem_channels=shape_of(flat, r"base_model\.bn1\.weight", (64,))[0],
    planes=tuple(
      shape_of(flat, rf"base_model\.layer{i}\.0\.bn1\.weight", (32 * 2**i,))[0] for i in stages
    ),
    layers=tuple(count_of(flat, rf"base_model\.layer{i}\.(\d+)\.") for i in stages),
    num_classes=shape_of(flat, r"new_fc\.bias", (400,))[0],
  )
  return Detected(config, rules, TORCH_COUNTS)
