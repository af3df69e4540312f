"""Names of MMV's released checkpoints, parameters and states of batch norms, from ours."""

from collections.abc import Mapping, Sequence

from perceiver_stream.models.mapping import Rule, Shape

HEAD_NAMES = {
  "video_to_text": "vis_embd",
  "video_to_audio": "vid2audio_embd",
  "audio_to_video": "audio_embd",
  "audio_to_text": "audio2txt_embd",
  "text_to_video": "txt_embd",
  "text_to_audio": "txt2audio_embd",
}
NORMS = ("__cross_replica_batch_norm", "_cross_replica_batch_norm", "batch_norm")
_STATE = r"((?:/~/(?:mean|var)_ema)?/\w+)"


def norm_of(flat: Mapping[str, object]) -> str:
  """Returns the name of batch norms in a file: it depends on the version of Haiku and on an option."""
  parts = {part for name in flat for part in name.split("/")}
  return next((norm for norm in NORMS if norm in parts), NORMS[0])


def rules(norm: str = NORMS[0]) -> Sequence[Rule]:
  """Returns the released names of the parameters and states of a whole MMV.

  Args:
    norm: Name of batch norms in the file; see `norm_of`.
  """
  top, unit = "text_audio_video", r"tsm_resnet_unit_\1/block_\2"
  video, audio = f"{top}/visual_module/~/TSMResNetV2", f"{top}/audio_module/~/res_net_v2"
  group, block = r"~/block_group_\1/block_\2", r"stage_(\d+)_block_(\d+)"
  found = [
    Rule("video/stem/w", f"{video}/tsm_resnet_stem/w"),
    Rule(rf"video/norm{_STATE}", rf"{video}/{norm}\1"),
    Rule(rf"video/{block}/norm_0{_STATE}", rf"{video}/{unit}/{norm}\3"),
    Rule(rf"video/{block}/norm_(\d+){_STATE}", rf"{video}/{unit}/{norm}_\3\4"),
    Rule(rf"video/{block}/conv_(\d)/w", rf"{video}/{unit}/conv_\3/w"),
    Rule(rf"video/{block}/shortcut/w", rf"{video}/{unit}/shortcut_conv/w"),
    Rule("audio/stem/w", f"{audio}/~/initial_conv/w"),
    Rule(rf"audio/norm{_STATE}", rf"{audio}/{norm}\1"),
    Rule(rf"audio/{block}/norm_0{_STATE}", rf"{audio}/{group}/{norm}\3"),
    Rule(rf"audio/{block}/norm_(\d+){_STATE}", rf"{audio}/{group}/{norm}_\3\4"),
    Rule(rf"audio/{block}/conv_(\d)/w", rf"{audio}/{group}/~/conv_\3/w"),
    Rule(rf"audio/{block}/shortcut/w", rf"{audio}/{group}/~/shortcut_conv/w"),
    Rule("text/embeddings", f"{top}/text_module/~/embed/embeddings"),
    Rule("text/conv/w", f"{top}/text_module/~/text_conv1/w", _with_kernel),
    Rule("text/conv/b", f"{top}/text_module/~/text_conv1/b"),
    Rule(rf"fine/norm_0{_STATE}", rf"{top}/~_activate_interaction/{norm}\1"),
  ]
  for ours, theirs in HEAD_NAMES.items():
    head = f"{top}/~_get_pair_embedding_heads/{theirs}"
    found += [
      Rule(rf"{ours}/hidden_0/(\w)", rf"{head}/final_projection_inner/\1"),
      Rule(rf"{ours}/hidden_(\d+)/(\w)", rf"{head}/final_projection_inner_\1/\2"),
      Rule(rf"{ours}/projection/(\w)", rf"{head}/final_projection/\1"),
      Rule(rf"{ours}/norm_0{_STATE}", rf"{head}/{norm}\1"),
      Rule(rf"{ours}/norm_(\d+){_STATE}", rf"{head}/{norm}_\1\2"),
    ]
  return found


def _with_kernel(shape: Shape) -> Shape:
  return (1, *shape)
