"""Names of BraVe's released checkpoints, parameters and states of batch norms, from ours."""

from collections.abc import Sequence

from perceiver_stream.models.mapping import Rule

_STATE = r"((?:/~/(?:mean|var)_ema)?/\w+)"  # of a norm: `/scale`, or `/~/mean_ema/hidden`
IGNORE = r"shared_project_\d+/.*"  # never read: made by the released initialisation


def rules() -> Sequence[Rule]:
  """Returns the released names of the parameters and states of a whole BraVe."""
  video, audio = r"(narrow|broad)_video", "broad_audio"
  unit, group = r"tsm_resnet_unit_\2/block_\3", r"~/block_group_\1/block_\2"
  theirs, sound = r"\1_video_embedding/TSMResNetV2", "broad_audio_embedding/res_net_v2"
  return [
    Rule(rf"{video}/stem/w", rf"{theirs}/tsm_resnet_stem/w"),
    Rule(rf"{video}/norm{_STATE}", rf"{theirs}/batch_norm\2"),
    Rule(rf"{video}/stage_(\d+)_block_(\d+)/norm_0{_STATE}", rf"{theirs}/{unit}/batch_norm\4"),
    Rule(
      rf"{video}/stage_(\d+)_block_(\d+)/norm_(\d+){_STATE}", rf"{theirs}/{unit}/batch_norm_\4\5"
    ),
    Rule(rf"{video}/stage_(\d+)_block_(\d+)/conv_(\d)/w", rf"{theirs}/{unit}/conv_\4/w"),
    Rule(rf"{video}/stage_(\d+)_block_(\d+)/shortcut/w", rf"{theirs}/{unit}/shortcut_conv/w"),
    Rule(rf"{audio}/stem/w", f"{sound}/~/initial_conv/w"),
    Rule(rf"{audio}/norm{_STATE}", rf"{sound}/batch_norm\1"),
    Rule(rf"{audio}/stage_(\d+)_block_(\d+)/norm_0{_STATE}", rf"{sound}/{group}/batch_norm\3"),
    Rule(
      rf"{audio}/stage_(\d+)_block_(\d+)/norm_(\d+){_STATE}", rf"{sound}/{group}/batch_norm_\3\4"
    ),
    Rule(rf"{audio}/stage_(\d+)_block_(\d+)/conv_(\d)/w", rf"{sound}/{group}/~/conv_\3/w"),
    Rule(rf"{audio}/stage_(\d+)_block_(\d+)/shortcut/w", rf"{sound}/{group}/~/shortcut_conv/w"),
    Rule(r"head/(\w+)_linear_0/(\w)", r"shared_project/\1/linear/\2"),
    Rule(r"head/(\w+)_linear_1/(\w)", r"shared_project/\1/linear_1/\2"),
    Rule(rf"head/(\w+)_norm_0{_STATE}", r"shared_project/\1/batch_norm\2"),
    Rule(rf"head/(\w+)_norm_1{_STATE}", r"shared_project/\1/batch_norm_1\2"),
  ]
