"""ViViT against scenic: outputs, gradients, tables of positions; causal forms against the released."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from clip_golden import ClipGolden, exported, paths_of, train_step
from drawn_clips import drawn, random_clips

from perceiver_stream.models import vivit
from perceiver_stream.models.mapping import export_params, published_names
from perceiver_stream.models.vivit import positions, weights
from perceiver_stream.zoo import clip_encoders

FILES = paths_of("vivit")


def config_of(golden: ClipGolden, kind: str) -> vivit.Config:
  h = golden.hyper
  _, frames, height, width, _ = h["clip"]
  patch_height, patch_width, patch_frames = h["patch_h_w_t"]
  return vivit.Config(
    kind=kind,  # pyright: ignore[reportArgumentType]
    num_frames=frames,
    height=height,
    width=width,
    patch_height=patch_height,
    patch_width=patch_width,
    patch_frames=patch_frames,
    dim=h["dim"],
    num_layers=h["depth"],
    num_temporal_layers=h["temporal_depth"],
    num_heads=h["heads"],
    mlp_dim=h["mlp"],
    classifier=h["classifier"][kind],
    num_classes=h["classes"],
    attention_order=h["attention_order"],
    norm_eps=h["layer_norm_eps"],
    mean=(0.0,),
    std=(1.0,),
  )


@pytest.mark.parametrize("path", FILES)
def test_golden(path):
  golden = ClipGolden(path)
  clips, labels = jnp.asarray(golden["inputs/clips"]), golden["inputs/labels"]
  for kind in golden.about["grad_order"]:
    config, out = config_of(golden, kind), f"outputs/{kind}"
    loaded = golden.load(config, f"params/{kind}/", weights.rules)
    outputs, loss, grads, _ = train_step(loaded, clips, labels)
    golden.close(f"{out}/logits", outputs.logits)
    golden.close(f"{out}/loss", loss)
    golden.close(f"{out}/prelogits", outputs.pooled)
    if f"{out}/tokens" in golden.arrays:
      golden.close(f"{out}/tokens", outputs.parts["tokens"])
    order = golden.about["grad_order"][kind]
    golden.gradients(f"{out}/grads_flat", order, exported(grads, weights.rules(config)))
  tables(golden)
  golden.all_compared()


def grid_of(golden: ClipGolden, text: str, count: int) -> tuple[int, int]:
  """Returns the rows and columns of a table: in its name, square, or those of the clips."""
  named = re.search(r"(\d+)x(\d+)", text)
  patch, size = golden.hyper["patch_h_w_t"], golden.hyper["clip"][2:4]
  side = round(count**0.5)
  grids = [(side, side), (size[0] // patch[0], size[1] // patch[1])]
  grids = [(int(named[1]), int(named[2])), *grids] if named else grids
  fitting = [grid for grid in grids if grid[0] * grid[1] == count]
  assert fitting, f"{text}: no grid of {count} places is known"
  return fitting[0]


def tables(golden: ClipGolden) -> None:
  """Compares the tables of positions; their names have the sizes."""
  table = golden.arrays["inputs/posemb_grid"]
  for name in golden.part("outputs/posemb_"):
    number = int(re.findall(r"\d+", name)[-1])
    if name.startswith("tiled"):
      made = positions.tiled(table, number)
    elif name.startswith("interpolated"):
      new = grid_of(golden, name, golden.arrays[f"outputs/posemb_{name}"].shape[-2])
      made = positions.interpolated(table, grid_of(golden, "posemb_grid", len(table)), new)
    else:
      made = positions.interpolated(table, (len(table),), (number,))
    golden.close(f"outputs/posemb_{name}", made[None])


@pytest.mark.parametrize(
  ("name", "token", "kind"),
  [
    ("nano", True, "spacetime"),
    ("nano_factorized_encoder", True, "factorized_encoder"),
    ("nano_factorized_self_attention_causal", False, "factorized_self_attention_block"),
  ],
)
def test_kinds_and_class_tokens_are_detected(name, token, kind):
  encoder = clip_encoders.build(f"vivit/{name}")
  params, _ = clip_encoders.template(encoder)
  names = published_names(params, weights.rules(encoder.config)).values()
  found = weights.detect({p.name: np.empty(p.shape) for p in names})
  assert found and found.config.kind == kind
  assert found.config.classifier == ("token" if token else "gap")


# Parameters of the released ViT-B and ViT-L encoders with these tables; see the notes of the test.
COUNTS = {
  # tubelets 2·16²·3·768 + 768, class token, 3137 positions, 12 blocks of 7,087,872, norm, classifier
  "base": 1_180_416 + 768 + 3137 * 768 + 12 * 7_087_872 + 1536 + 768 * 400 + 400,
  "base_factorized_encoder": 1_180_416
  + 2 * 768
  + (197 + 17) * 768
  + (12 + 4) * 7_087_872
  + 2 * 1536
  + 768 * 400
  + 400,
}


@pytest.mark.parametrize("name", COUNTS)
def test_full_sizes_have_the_published_counts(name):
  assert clip_encoders.num_parameters(clip_encoders.build(f"vivit/{name}")) == COUNTS[name]


def test_a_causal_model_of_one_tubelet_is_the_other_one():
  sizes = {"num_frames": 2, "height": 16, "width": 8, "patch_height": 4, "patch_width": 4}
  config = vivit.Config(**sizes, dim=8, num_layers=1, num_heads=2, mlp_dim=8, classifier="gap")
  loaded = drawn(vivit.build(config))
  flat = export_params(loaded.params, weights.rules(config))
  found = clip_encoders.Detected(vivit.Config(**vars(config) | {"causal": True}), weights.rules)
  causal = clip_encoders.from_published(flat, found, "test")
  clips = random_clips(loaded.encoder)
  one, other = (x.encoder.apply(x.params, {}, clips)[0].features for x in (loaded, causal))
  np.testing.assert_allclose(one, other, atol=1e-5)


def test_fields_that_do_not_fit_together_are_named():
  with pytest.raises(ValueError, match="has no class token; use classifier='gap'"):
    vivit.build(vivit.Config(kind="factorized_self_attention_block"))
  with pytest.raises(ValueError, match="a class token reads all frames"):
    vivit.build(vivit.Config(causal=True))
  with pytest.raises(ValueError, match="memory=17 tubelets, but there are positions for 16"):
    vivit.build(vivit.Config(memory=17))
  encoder = clip_encoders.build("vivit/nano")
  with pytest.raises(ValueError, match="1 × 17 tokens .*, but there are positions for 1 × 9"):
    encoder.apply(*drawn(encoder)[1:], jnp.zeros((1, 8, 8, 8, 3)))
