"""V-JEPA and V-JEPA 2 against released code: masks, features, loss, gradients, a training step."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import files, gradients_close

from perceiver_stream.models import vjepa
from perceiver_stream.models.mapping import export_params, import_params
from perceiver_stream.models.vjepa import masks, positions, targets, weights
from perceiver_stream.models.vjepa.config import MaskConfig, PredictorConfig
from perceiver_stream.nn.losses.coclr import momentum_update

each = pytest.mark.parametrize("golden", files("vjepa"))
PREFIX = "module.backbone."
KEY = jax.random.key(0)  # of shapes only


def mask_configs(golden) -> tuple[MaskConfig, ...]:
  return tuple(
    MaskConfig(
      num_blocks=m["num_blocks"],
      spatial_scale=tuple(map(float, m["spatial_scale"])),
      temporal_scale=tuple(map(float, m["temporal_scale"])),
      aspect_ratio=tuple(map(float, m["aspect_ratio"])),
      max_temporal_keep=float(m["max_temporal_keep"]),
      max_keep=m["max_keep"] or 0,
    )
    for m in golden.hyper["masks"]
  )


def config_of(golden, version: str) -> vjepa.Config:
  h, sizes = golden.hyper, golden.hyper[version]
  height, width = (h["patch"] * n for n in h["grid_t_h_w"][1:])
  params = golden.below(f"params/{version}/predictor/{PREFIX}mask_tokens.")
  wide = golden.below(f"params/{version}/predictor/{PREFIX}predictor_blocks.0.mlp.fc1.")
  return vjepa.Config(
    num_frames=h["frames"],
    height=height,
    width=width,
    patch=h["patch"],
    tubelet=h["tubelet"],
    dim=sizes["embed_dim"],
    num_layers=sizes["depth"],
    num_heads=sizes["heads"],
    mlp_dim=int(h["mlp_ratio"] * sizes["embed_dim"]),
    positions="table" if version == "v1" else "rotary",
    uniform_power=h["uniform_power"],
    predictor=PredictorConfig(
      dim=sizes["predictor_dim"],
      num_layers=sizes["predictor_depth"],
      num_heads=sizes["predictor_heads"],
      mlp_dim=wide["bias"].shape[0] if wide else 0,
      num_mask_tokens=len(params),
    ),
    mean=(0.0,),
    std=(1.0,),
    masks=mask_configs(golden),
  )


class Setup:
  """The model of one version with the file's parameters, as pure functions."""

  def __init__(self, golden, version: str):
    self.golden, self.version = golden, version
    self.config = config = config_of(golden, version)
    self.clips = jnp.moveaxis(golden["inputs/clips"], 1, -1)
    encode = lambda clips, places: vjepa.Encoder(config)(clips, places)  # noqa: E731
    predict = lambda *args: vjepa.Predictor(config)(*args)  # noqa: E731
    self.encoder, self.predictor = (
      hk.without_apply_rng(hk.transform(f)) for f in (encode, predict)
    )
    self.rules = {
      "encoder": weights.encoder_rules(config, PREFIX),
      "predictor": weights.predictor_rules(PREFIX),
    }
    some = jnp.zeros((1, 2), jnp.int32)
    features = jnp.zeros((1, 2, config.dim))
    self.templates = {
      "encoder": jax.eval_shape(self.encoder.init, KEY, self.clips, None),
      "predictor": jax.eval_shape(self.predictor.init, KEY, features, some, some),
    }
    self.params = {part: self.load(part, part) for part in self.rules}

  def load(self, source: str, part: str):
    prefix = f"params/{self.version}/{source}/"
    return jax.tree.map(
      jnp.asarray,
      import_params(
        {n: np.asarray(v) for n, v in self.golden.below(prefix).items()},
        self.templates[part],
        self.rules[part],
        source=prefix,
        ignore=weights.TABLES,
      ),
    )

  def published(self, tree) -> dict[str, np.ndarray]:
    """Returns arrays of encoder and predictor under the names of the file."""
    return {
      f"{part}/{name}": value
      for part, rules in self.rules.items()
      for name, value in export_params(tree[part], rules).items()
    }

  def step(self, params, teacher, batch):
    """Returns the total loss, and all that it is made from."""
    h = self.golden.hyper
    every = targets.target_features(self.encoder.apply(teacher, self.clips, None))
    found, predictions, losses = {}, [], []
    for i, (context, target) in enumerate(batch):
      features = self.encoder.apply(params["encoder"], self.clips, context)
      wanted = jax.lax.stop_gradient(vjepa.gathered(every, target))
      token = i if self.version == "v1" else 0
      predicted = self.predictor.apply(params["predictor"], features, context, target, token)
      losses.append(targets.feature_loss(predicted, wanted, exponent=float(h["loss_exp"])))
      predictions.append(predicted)
      found |= {f"context{i}": features, f"target{i}": wanted, f"prediction{i}": predicted}
    loss, spread = sum(losses) / len(losses), targets.spread_loss(predictions)
    total = loss + float(h["reg_coeff"]) * spread
    return total, found | {"loss": loss, "reg_loss": spread, "total_loss": total}


def batch_of(golden):
  step = int(golden.arrays["inputs/use_masks_of_step"])
  prefix = f"outputs/masks/step{step}"
  return [
    tuple(golden[f"{prefix}/{part}{i}"] for part in ("context", "target"))
    for i in range(len(golden.hyper["masks"]))
  ]


@each
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_step(golden, version):
  setup = Setup(golden, version)
  teacher = setup.load("target_encoder", "encoder") if version == "v1" else setup.params["encoder"]
  out, batch = f"outputs/{version}", batch_of(golden)

  @jax.jit
  def run(params, teacher):
    result = jax.value_and_grad(setup.step, has_aux=True)(params, teacher, batch)
    return result, setup.encoder.apply(params["encoder"], setup.clips, None)

  ((_, found), grads), every = run(setup.params, teacher)
  golden.close(f"{out}/encode_all_tokens", every)
  for name, value in found.items():
    if f"{out}/{name}" in golden.arrays:
      golden.close(f"{out}/{name}", value)
  check_other_sizes(golden, setup)
  published = setup.published(grads)
  for name in golden.about.get(f"{version}_parameters_without_gradient", []):
    assert not np.any(published[name]), name
  gradients_close(golden.split(f"{out}/grads_flat", f"{version}_grad_order"), published)
  if version == "v1":
    check_table(golden, setup)
    check_training_step(golden, setup, grads, teacher)
  values = {n for n in golden.arrays if n.startswith(f"{out}/")}
  elsewhere = {f"{out}/probe_logits", f"{out}/rope"} | {n for n in values if "/masks/" in n}
  assert values - elsewhere <= golden.compared, sorted(values - elsewhere - golden.compared)


def check_other_sizes(golden, setup):
  """Tokens of clips of other sizes than the model's, for outputs of their shape.

  An output that no clips fit is among those that `test_step` finds not compared.
  """
  prefix = f"outputs/{setup.version}/"
  left = {n for n, x in golden.part(prefix).items() if x.ndim == 3 and "/" not in n}
  left -= {n.removeprefix(prefix) for n in golden.compared}
  others = {n: x for n, x in golden.below("inputs/").items() if x.ndim == 5 and n != "clips"}
  for clips in others.values() if left else ():
    run = lambda x: setup.encoder.apply(setup.params["encoder"], x, None)  # noqa: E731
    x = jnp.moveaxis(clips, 1, -1)
    shape = jax.eval_shape(run, x).shape
    same = [n for n in left if golden.arrays[f"{prefix}{n}"].shape == shape]
    for name in same:
      golden.close(f"{prefix}{name}", jax.jit(run)(x))
    left -= set(same)


def check_table(golden, setup):
  """The tables in the file are those that are computed."""
  c = setup.config
  for name, dim in (("encoder", c.dim), ("predictor", c.predictor.dim)):
    prefix = "predictor_" if name == "predictor" else ""
    stored = golden[f"params/v1/{name}/{PREFIX}{prefix}pos_embed"]
    table = positions.sincos_table(c.grid, dim, uniform=c.uniform_power)
    np.testing.assert_allclose(stored[0], table, atol=1e-6)


def check_training_step(golden, setup, grads, teacher):
  """One AdamW step with the first entries of the schedules, then the teacher's."""
  opt = golden.hyper["opt"]
  steps = len(golden.arrays["outputs/v1/schedule_lr"])
  total = int(opt["ipe"] * opt["epochs"] * opt["ipe_scale"])
  rates = targets.warmup_cosine(
    steps,
    warmup=int(opt["warmup"] * opt["ipe"]),
    total=total,
    **{
      ours: float(opt[n])
      for ours, n in (("start", "start_lr"), ("peak", "lr"), ("final", "final_lr"))
    },
  )
  decays = targets.cosine_decay(
    steps, total=total, start=float(opt["wd"]), final=float(opt["final_wd"])
  )
  momenta = targets.linear_momentum(total, *map(float, opt["ema"]))
  golden.close("outputs/v1/schedule_lr", rates)
  golden.close("outputs/v1/schedule_wd", decays)
  golden.close("outputs/v1/schedule_ema", momenta)
  if clip := golden.hyper["clip_grad"]:
    shares = {k: jnp.minimum(1.0, clip / (optax.tree.norm(v) + 1e-6)) for k, v in grads.items()}
    grads = {k: jax.tree.map(lambda g, s=shares[k]: g * s, v) for k, v in grads.items()}
  matrices = lambda tree: jax.tree_util.tree_map_with_path(  # noqa: E731
    lambda path, x: x.ndim > 1 and path[-1].key != "b", tree
  )
  adam = optax.adamw(float(rates[0]), weight_decay=float(decays[0]), mask=matrices)
  with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
    updates, _ = adam.update(grads, adam.init(setup.params), setup.params)
  after = optax.apply_updates(setup.params, updates)
  slow = momentum_update(teacher, after["encoder"], float(momenta[0]))  # pyright: ignore
  golden.close(
    "outputs/v1/params_after_step_flat",
    np.concatenate(
      [setup.published(after)[n].reshape(-1) for n, _ in golden.about["v1_grad_order"]]
    ),
  )
  table = golden[f"params/v1/target_encoder/{PREFIX}pos_embed"]
  published = export_params(slow, setup.rules["encoder"]) | {f"{PREFIX}pos_embed": table}
  golden.close(
    "outputs/v1/target_after_step_flat",
    np.concatenate([published[n].reshape(-1) for n, _ in golden.about["v1_target_order"]]),
  )


@each
def test_masks_are_the_released_ones(golden):
  h = golden.hyper
  configs, grid = mask_configs(golden), tuple(h["grid_t_h_w"])
  sampler = masks.MaskSampler(configs, grid, h["global_mask_seed"])
  steps = sum(n.endswith("/context0") for n in golden.below("outputs/masks/step"))
  for step in range(steps):
    for i, found in enumerate(sampler(h["batch"])):
      golden.equal(f"outputs/masks/step{step}/context{i}", found.context)
      golden.equal(f"outputs/masks/step{step}/target{i}", found.target)
  for step, i, *size in golden.arrays["outputs/masks/block_t_h_w"]:
    assert masks.block_size(configs[i], grid, int(step)) == tuple(size)
  golden.compared.add("outputs/masks/block_t_h_w")
  options = {
    "plain": {},
    "full_complement": {"complement": "full"},
    "pred_full_complement": {"complement": "target"},
    "inv_block": {"inverted": True},
    "max_keep": {"max_keep": h["v2_max_keep"] or 0},
    "half_time": {"max_temporal_keep": float(h.get("v2_max_temporal_keep", 0.5))},
  }
  stored = {name.split("/")[0] for name in golden.part("outputs/v2/masks/")}
  assert stored <= set(options), f"options of masks without a rule: {stored - set(options)}"
  for name, changes in ((n, options[n]) for n in sorted(stored)):
    config = MaskConfig(**vars(configs[0]) | changes)
    (found,) = masks.MaskSampler([config], grid, h["v2_option_mask_seed"])(h["batch"])
    golden.equal(f"outputs/v2/masks/{name}/context", found.context)
    golden.equal(f"outputs/v2/masks/{name}/target", found.target)
  golden.all_compared("outputs/masks")
  golden.all_compared("outputs/v2/masks")


@each
def test_rotation_and_probes(golden):
  h = golden.hyper
  x = jnp.moveaxis(golden["inputs/rope_q"], 1, 2)
  places = jnp.broadcast_to(golden["inputs/rope_pos"].astype(jnp.float32)[None], x.shape[:2])
  golden.close("outputs/v2/rope", jnp.moveaxis(positions.rotated(x, places), 2, 1))
  for version, key in (("v1", "inputs/probe_tokens"), ("v2", "inputs/v2_probe_tokens")):
    tokens, stored = golden[key], golden.below(f"params/{version}/classifier/")
    first = version == "v2"
    depth = h["probe_depth2"] if first else h["probe_depth1"]
    probe = hk.without_apply_rng(
      hk.transform(
        lambda x, s=stored, v=version, d=depth, first=first: vjepa.AttentiveProbe(
          s["linear.bias"].shape[0],
          h[v]["heads"],
          num_blocks=d - 1,
          mlp_dim=s["pooler.cross_attention_block.mlp.fc1.bias"].shape[0],
          blocks_first=first,
        )(x)
      )
    )
    params = import_params(
      {n: np.asarray(v) for n, v in stored.items()},
      jax.eval_shape(probe.init, KEY, tokens),
      weights.probe_rules(),
      source=version,
      ignore="|".join(golden.about["v1_unused_parameters"]),
    )
    golden.close(f"outputs/{version}/probe_logits", jax.jit(probe.apply)(params, tokens))
