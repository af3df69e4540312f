"""Published weights of SlowFast: names of the released state dicts."""

from perceiver_stream.models.mapping import Detected, Flat, Rule, count_of, shape_of
from perceiver_stream.models.slowfast.config import Config
from perceiver_stream.models.video_resnet.weights import (
  TORCH_COUNTS,
  torch_conv,
  torch_linear,
  torch_norm,
)


def rules(config: Config) -> list[Rule]:
  """Returns the names in a state dict."""
  block, layer = r"slowfast/s(\d)_(\d)_(\d+)", r"s\1.pathway\2_res\3"
  return [
    torch_conv(r"slowfast/stem_(\d)/conv", r"s1.pathway\1_stem.conv"),
    *torch_norm(r"slowfast/stem_(\d)/norm", r"s1.pathway\1_stem.bn"),
    torch_conv(r"slowfast/s(\d)_fuse/conv", r"s\1_fuse.conv_f2s"),
    *torch_norm(r"slowfast/s(\d)_fuse/norm", r"s\1_fuse.bn"),
    torch_conv(f"{block}/shortcut/conv", f"{layer}.branch1"),
    *torch_norm(f"{block}/shortcut/norm", f"{layer}.branch1_bn"),
    torch_conv(f"{block}/([abc])/conv", rf"{layer}.branch2.\4"),
    *torch_norm(f"{block}/([abc])/norm", rf"{layer}.branch2.\4_bn"),
    *torch_linear("slowfast/classifier", "head.projection"),
  ]


def detect(flat: Flat) -> Detected | None:
  """Returns the model of a state dict; None if it is no SlowFast network.

  `alpha` and the size of the clips are those of SlowFast 8×8; they determine no shape.
  """
  if not any(name.startswith("s1.pathway1_stem.") for name in flat):
    return None
  slow = shape_of(flat, r"s1\.pathway0_stem\.conv\.weight", (64, 3, 1, 7, 7))
  fast = shape_of(flat, r"s1\.pathway1_stem\.conv\.weight", (8, 3, 5, 7, 7))
  lateral = shape_of(flat, r"s1_fuse\.conv_f2s\.weight", (16, 8, 7, 1, 1))
  kernels = lambda i, published: tuple(  # noqa: E731
    shape_of(flat, rf"s{s}\.pathway{i}_res0\.branch2\.a\.weight", (0, 0, t, 1, 1))[2]
    for s, t in zip(range(2, 6), published, strict=True)
  )
  config = Config(
    channels=slow[0],
    beta_inv=slow[0] // max(fast[0], 1),
    fusion_ratio=lateral[0] // max(lateral[1], 1),
    fusion_kernel=lateral[2],
    blocks=tuple(count_of(flat, rf"s{s}\.pathway0_res(\d+)\.") for s in range(2, 6)),
    slow_kernels=(slow[2], *kernels(0, (1, 1, 3, 3))),
    fast_kernels=(fast[2], *kernels(1, (3, 3, 3, 3))),
    num_classes=shape_of(flat, r"head\.projection\.bias", (400,))[0],
  )
  return Detected(config, rules, TORCH_COUNTS)
