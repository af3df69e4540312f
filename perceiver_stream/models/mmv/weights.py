"""Names of MMV's released checkpoints, parameters and states of batch norms, from ours."""

from collections.abc import Sequence

from perceiver_stream.models.mapping import Rule, Shape
from perceiver_stream.models.s3d.weights import TOWER, tower_rules
from perceiver_stream.models.tsm_resnet.weights import NORMS, STATE, audio_rules, video_rules

HEAD_NAMES = {
  "video_to_text": "vis_embd",
  "video_to_audio": "vid2audio_embd",
  "audio_to_video": "audio_embd",
  "audio_to_text": "audio2txt_embd",
  "text_to_video": "txt_embd",
  "text_to_audio": "txt2audio_embd",
}


def rules(norm: str = NORMS[0]) -> Sequence[Rule]:
  """Returns the released names of the parameters and states of a whole MMV.

  Args:
    norm: Name of batch norms in the file; see `norm_of`.
  """
  top = "text_audio_video"
  found = [
    *video_rules("video", f"{top}/visual_module/~/TSMResNetV2", norm),
    *tower_rules("video", TOWER, norm),
    *audio_rules("audio", f"{top}/audio_module/~/res_net_v2", norm),
    Rule("text/embeddings", f"{top}/text_module/~/embed/embeddings"),
    Rule("text/conv/w", f"{top}/text_module/~/text_conv1/w", _with_kernel),
    Rule("text/conv/b", f"{top}/text_module/~/text_conv1/b"),
    Rule(rf"fine/norm_0{STATE}", rf"{top}/~_activate_interaction/{norm}\1"),
  ]
  for ours, theirs in HEAD_NAMES.items():
    head = f"{top}/~_get_pair_embedding_heads/{theirs}"
    found += [
      Rule(rf"{ours}/hidden_0/(\w)", rf"{head}/final_projection_inner/\1"),
      Rule(rf"{ours}/hidden_(\d+)/(\w)", rf"{head}/final_projection_inner_\1/\2"),
      Rule(rf"{ours}/projection/(\w)", rf"{head}/final_projection/\1"),
      Rule(rf"{ours}/norm_0{STATE}", rf"{head}/{norm}\1"),
      Rule(rf"{ours}/norm_(\d+){STATE}", rf"{head}/{norm}_\1\2"),
    ]
  return found


def _with_kernel(shape: Shape) -> Shape:
  return (1, *shape)
