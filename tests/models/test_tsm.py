"""TSM networks: names and counts of the released ones, shifts of every second block, torch files."""

import jax
import numpy as np
import pytest
from drawn_clips import shared
from safetensors.numpy import save_file

from perceiver_stream import zoo
from perceiver_stream.models import tsm
from perceiver_stream.models.mapping import export_params, published_names
from perceiver_stream.models.tsm import weights
from perceiver_stream.zoo import clip_encoders


def names_of(encoder) -> dict[str, tuple[int, ...]]:
  tree = clip_encoders.merged(*clip_encoders.template(encoder))
  names = published_names(tree, weights.rules(encoder.config)).values()
  return {p.name: tuple(p.shape) for p in names}


def test_full_size_is_resnet_50_with_wrapped_convolutions():
  encoder = clip_encoders.build("tsm/r50")
  # ResNet-50 has 25,557,032 parameters with 1,000 classes; shifts have none.
  assert clip_encoders.num_parameters(encoder) == 25_557_032 - 2049 * 1000 + 2049 * 400
  names = names_of(encoder)
  assert names["base_model.conv1.weight"] == (64, 3, 7, 7)
  assert names["base_model.layer2.0.conv1.net.weight"] == (128, 256, 1, 1)
  assert names["base_model.layer4.2.conv2.weight"] == (512, 512, 3, 3)
  assert names["base_model.layer1.0.downsample.1.running_var"] == (256,)
  assert names["new_fc.weight"] == (400, 2048)
  assert len(names) == 53 * 5 + 2
  assert sum(".net." in name for name in names) == sum(encoder.config.layers)


def test_deep_networks_shift_in_every_second_block():
  encoder = tsm.build(tsm.Config(layers=(1, 1, 23, 1), planes=(2, 2, 2, 2), stem_channels=8))
  shifted = [name for name in names_of(encoder) if ".layer3." in name and ".net." in name]
  assert [int(name.split(".")[2]) for name in sorted(shifted, key=len)] == list(range(0, 23, 2))


def test_wrappers_of_training_programs_are_taken_off():
  inner = {"module.a.weight": np.zeros(2), "module.b": np.ones(3)}
  wrapped = {f"state_dict/{k}": v for k, v in inner.items()} | {"epoch": np.zeros(())}
  assert sorted(clip_encoders.without_wrappers(wrapped)) == ["a.weight", "b"]
  kept = {"model.a": np.zeros(2), "b": np.zeros(1)}
  assert clip_encoders.without_wrappers(kept) is kept


def test_a_wrapped_state_dict_of_torch_loads(tmp_path):
  loaded = shared("tsm/nano")
  tree = clip_encoders.merged(*loaded[1:])
  flat = export_params(tree, weights.rules(loaded.encoder.config))
  wrapped = {f"module.{k}": np.ascontiguousarray(v) for k, v in flat.items()}
  save_file(wrapped, tmp_path / "x.safetensors", {"format": "pt"})
  assert clip_encoders.is_encoder(tmp_path / "x.safetensors")
  again = clip_encoders.load(tmp_path / "x.safetensors", fold_div=4)
  jax.tree.map(np.testing.assert_array_equal, again[1:], loaded[1:])
  clip_encoders.save(tmp_path / "y.safetensors", again)
  with pytest.raises(ValueError, match="no recurrent model; load it with zoo.clip_encoders.load"):
    zoo.load(tmp_path / "y.safetensors")
