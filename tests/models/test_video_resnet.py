"""Video ResNets against torchvision: outputs, gradients, running statistics, full-size names."""

import jax
import numpy as np
import pytest
from clip_golden import ClipGolden, channels_last, exported, paths_of, train_step

from perceiver_stream.models import video_resnet
from perceiver_stream.models.mapping import published_names
from perceiver_stream.models.video_resnet import weights
from perceiver_stream.zoo import clip_encoders

FILES = paths_of("video_resnet")


def config_of(golden: ClipGolden, kind: str) -> video_resnet.Config:
  h, norm = golden.hyper, golden.hyper["batch_norm"]
  return video_resnet.Config(
    kind=kind,  # pyright: ignore[reportArgumentType]
    stem_channels=h["stem_channels"],
    stem_mid_channels=h["r2plus1d_stem_mid"],
    planes=tuple(h["planes"]),
    layers=tuple(h["layers"]),
    num_classes=h["classes"],
    norm_eps=norm["eps"],
    norm_momentum=norm["momentum"],
    mean=(0.0,),
    std=(1.0,),
  )


@pytest.mark.parametrize("path", FILES)
def test_golden(path):
  golden = ClipGolden(path)
  clips, labels = channels_last(golden["inputs/clips"]), golden["inputs/labels"]
  for kind in sorted({name.split("/")[1] for name in golden.arrays if name.startswith("params/")}):
    config, out = config_of(golden, kind), f"outputs/{kind}"
    rules = weights.rules(config)
    loaded = golden.load(config, f"params/{kind}/", weights.rules, weights.TORCH_COUNTS)
    outputs, after = loaded.encoder.apply(loaded.params, loaded.statistics, clips)
    jax.tree.map(np.testing.assert_array_equal, after, loaded.statistics)
    golden.close(f"{out}/eval/logits", outputs.logits)
    for name in golden.part(f"{out}/eval/layer"):
      actual = np.moveaxis(outputs.parts[f"layer{name}"], -1, 1)
      golden.close(f"{out}/eval/layer{name}", actual)
    outputs, loss, grads, after = train_step(loaded, clips, labels)
    golden.close(f"{out}/train/logits", outputs.logits)
    golden.close(f"{out}/train/loss", loss)
    order = golden.about["grad_order"]
    golden.gradients(f"{out}/train/grads_flat", order[kind], exported(grads, rules))
    golden.flat(f"{out}/train/running_flat", order[f"{kind}_running"], exported(after, rules))
  golden.all_compared()


@pytest.mark.parametrize("path", FILES)
def test_full_sizes_have_the_published_names_shapes_and_counts(path):
  about = ClipGolden(path).about
  for kind, count in about["full_size_params"].items():
    encoder = clip_encoders.build(f"video_resnet/{kind}_18")
    params, statistics = clip_encoders.template(encoder)
    assert clip_encoders.num_parameters(encoder) == count
    if kind in about["full_size"]:
      tree = clip_encoders.merged(params, statistics)
      names = published_names(tree, weights.rules(encoder.config))
      expected = about["full_size"][kind]
      expected = {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
      assert {p.name: list(p.shape) for p in names.values()} == expected
