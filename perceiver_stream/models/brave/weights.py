"""Names of BraVe's released checkpoints, parameters and states of batch norms, from ours."""

from collections.abc import Sequence

from perceiver_stream.models.mapping import Rule
from perceiver_stream.models.tsm_resnet.weights import STATE, audio_rules, video_rules

IGNORE = r"shared_project_\d+/.*"  # never read: made by the released initialisation
_NORM = "batch_norm"


def rules() -> Sequence[Rule]:
  """Returns the released names of the parameters and states of a whole BraVe."""
  towers = [
    rule
    for view in ("narrow", "broad")
    for rule in video_rules(f"{view}_video", f"{view}_video_embedding/TSMResNetV2", _NORM)
  ]
  return [
    *towers,
    *audio_rules("broad_audio", "broad_audio_embedding/res_net_v2", _NORM),
    Rule(r"head/(\w+)_linear_0/(\w)", r"shared_project/\1/linear/\2"),
    Rule(r"head/(\w+)_linear_1/(\w)", r"shared_project/\1/linear_1/\2"),
    Rule(rf"head/(\w+)_norm_0{STATE}", r"shared_project/\1/batch_norm\2"),
    Rule(rf"head/(\w+)_norm_1{STATE}", r"shared_project/\1/batch_norm_1\2"),
  ]
