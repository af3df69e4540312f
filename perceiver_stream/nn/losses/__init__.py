"""Losses that learn representations: contrastive, clustered, predictive, of sound and sight.

Pure functions of features, without parameters. Rows of a batch are samples; features are scaled to
unit length where a function says so, and by its caller otherwise. Keys, queues, teachers and labels
carry no gradient. A function that takes `axis_name` runs inside `shard_map` or `pmap` with the rows
divided over that axis, and returns on every replica the loss of the whole batch. A function that takes
`valid` `[B]` gives the loss of the rows where it is True: the others are neither in the mean nor among
the negatives, and may be NaN; 0 if none counts.

`as_released=True` is the arithmetic of the released code where it differs from the paper; each
function names the difference. Sources are named by the functions; all is written from equations.
"""

from perceiver_stream.nn.losses import clustering as clustering
from perceiver_stream.nn.losses import coclr as coclr
from perceiver_stream.nn.losses import collapse as collapse
from perceiver_stream.nn.losses import contrastive as contrastive
from perceiver_stream.nn.losses import cosine_regression as cosine_regression
from perceiver_stream.nn.losses import dpc as dpc
from perceiver_stream.nn.losses import gdt as gdt
from perceiver_stream.nn.losses import head_matching as head_matching
from perceiver_stream.nn.losses import localisation as localisation
from perceiver_stream.nn.losses import multiple_instance as multiple_instance
from perceiver_stream.nn.losses import nt_xent as nt_xent
from perceiver_stream.nn.losses import online_clustering as online_clustering
from perceiver_stream.nn.losses import synchronisation as synchronisation
