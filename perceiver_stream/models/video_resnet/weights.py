"""Published weights of the video ResNets: names of torchvision's state dicts."""

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.video_resnet.config import Config

TORCH_3D = (4, 3, 0, 1, 2)  # our [t, h, w, C, K] in torch's order [K, C, t, h, w]
TORCH_COUNTS = r".*\.num_batches_tracked"  # batches that a norm was trained on


def torch_norm(ours: str, theirs: str) -> list[Rule]:
  """Returns the rules of one batch norm, parameters and running statistics."""
  names = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}
  return [Rule(f"{ours}/{a}", f"{theirs}.{b}") for a, b in names.items()]


def torch_conv(ours: str, theirs: str) -> Rule:
  """Returns the rule of one 3-D convolution's kernel."""
  return Rule(f"{ours}/w", f"{theirs}.weight", axes=TORCH_3D)


def torch_linear(ours: str, theirs: str) -> list[Rule]:
  """Returns the rules of one linear layer with a bias."""
  return [Rule(f"{ours}/w", f"{theirs}.weight", axes=(1, 0)), Rule(f"{ours}/b", f"{theirs}.bias")]


def rules(config: Config) -> list[Rule]:
  """Returns the names in a state dict of torchvision."""
  stem, block = "video_resnet/stem", r"video_resnet/layer(\d+)_(\d+)"
  both = rf"{block}/conv([12])"
  pair = [
    torch_conv(f"{stem}/spatial", "stem.0"),
    *torch_norm(f"{stem}/mid_norm", "stem.1"),
    torch_conv(f"{stem}/temporal", "stem.3"),
    *torch_norm(f"{stem}/norm", "stem.4"),
    torch_conv(f"{both}/spatial", r"layer\1.\2.conv\3.0.0"),
    *torch_norm(f"{both}/mid_norm", r"layer\1.\2.conv\3.0.1"),
    torch_conv(f"{both}/temporal", r"layer\1.\2.conv\3.0.3"),
  ]
  single = [
    torch_conv(f"{stem}/conv", "stem.0"),
    *torch_norm(f"{stem}/norm", "stem.1"),
    torch_conv(f"{both}/conv", r"layer\1.\2.conv\3.0"),
  ]
  return [
    *(pair if config.kind == "r2plus1d" else single),
    *torch_norm(f"{both}/norm", r"layer\1.\2.conv\3.1"),
    torch_conv(f"{block}/shortcut/conv", r"layer\1.\2.downsample.0"),
    *torch_norm(f"{block}/shortcut/norm", r"layer\1.\2.downsample.1"),
    *torch_linear("video_resnet/classifier", "fc"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a state dict; None if it is not of a video ResNet."""
  if not any(name.startswith("layer1.0.conv1.0.") for name in flat) or "stem.0.weight" not in flat:
    return None
  stem = shape_of(flat, r"stem\.0\.weight", (64, 3, 3, 7, 7))
  pair = "stem.3.weight" in flat
  second = shape_of(flat, r"layer2\.0\.conv1\.0\.weight", (128, 64, 3, 3, 3))
  config = Config(
    kind="r2plus1d" if pair else "r3d" if second[2] == 3 else "mc3",
    stem_channels=shape_of(flat, r"stem\.3\.weight", (64, 45, 3, 1, 1))[0] if pair else stem[0],
    stem_mid_channels=stem[0] if pair else 45,
    planes=tuple(
      shape_of(flat, rf"layer{i}\.0\.conv1\.1\.weight", (64 * 2 ** (i - 1),))[0]
      for i in range(1, 5)
    ),
    layers=tuple(count_of(flat, rf"layer{i}\.(\d+)\.conv1\.") for i in range(1, 5)),
    num_classes=shape_of(flat, r"fc\.bias", (400,))[0],
  )
  return Detected(config, rules, TORCH_COUNTS)
