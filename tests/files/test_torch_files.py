"""Files of `torch.save`, in both of its formats, are read without torch, and no code of them runs."""

import collections
import pickle
import zipfile

import jax
import numpy as np
import pytest
from torch_writer import STORAGES, Storage, Tensor, save, tensor

from perceiver_stream import zoo
from perceiver_stream.files import array_files, parameter_files, pickles, torch_files
from perceiver_stream.files.limits import RefusedError
from perceiver_stream.models.mapping import export_params
from perceiver_stream.zoo import clip_encoders

both = pytest.mark.parametrize("old", [False, True], ids=["archive", "old"])
RNG = np.random.default_rng(0)


@both
@pytest.mark.parametrize("dtype", [d for d in STORAGES if d != np.dtype("u2")], ids=str)
def test_arrays_of_every_type_come_back(tmp_path, dtype, old):
  arrays = {"a.w": RNG.integers(0, 2, (3, 4, 1)).astype(dtype), "b": np.ones((), dtype)}
  save(tmp_path / "x.pt", {name: tensor(x) for name, x in arrays.items()}, old=old)
  assert array_files.kind_of(tmp_path / "x.pt") == "torch"
  found = torch_files.read_torch(tmp_path / "x.pt")
  assert list(found) == list(arrays)
  for name, x in arrays.items():
    assert found[name].dtype == dtype and not found[name].flags.writeable
    np.testing.assert_array_equal(found[name], x)


@both
def test_bfloat16_becomes_float32(tmp_path, old):
  values = np.array([1.5, -0.25, 3e38, 0.0], np.float32)
  save(tmp_path / "x.pt", {"x": tensor((values.view(np.uint32) >> 16).astype(np.uint16))}, old=old)
  found = torch_files.read_torch(tmp_path / "x.pt")["x"]
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, values, rtol=2**-8)


@both
def test_views_share_storages_and_everything_else_is_left_out(tmp_path, old):
  storage = Storage(np.arange(12, dtype=np.float32))
  attributed = collections.OrderedDict(w=tensor(np.ones(1)))
  attributed._metadata = collections.OrderedDict(version=1)  # as a state dict of torch has it
  tree = collections.OrderedDict(
    state=attributed,
    epoch=3,
    lr=0.5,
    note="text",
    nothing=None,
    model={
      "rows": Tensor(storage, 2, (2, 3), (4, 1)),
      "transposed": Tensor(storage, 0, (4, 3), (1, 4)),
      "parameter": Tensor(storage, 11, (1,), (1,), is_parameter=True),
    },
    opt=[{"m": tensor(np.zeros((0, 3), np.float32))}],
  )
  save(tmp_path / "x.pt", tree, old=old)
  found = torch_files.read_torch(tmp_path / "x.pt")
  whole = np.arange(12, dtype=np.float32).reshape(3, 4)
  np.testing.assert_array_equal(found["model/rows"], whole.reshape(-1)[2:10].reshape(2, 4)[:, :3])
  np.testing.assert_array_equal(found["model/transposed"], whole.T)
  np.testing.assert_array_equal(found["model/parameter"], [11])
  assert found["opt/0/m"].shape == (0, 3) and len(found) == 5


def test_an_encoder_loads_from_a_file_of_torch_as_from_safetensors(tmp_path):
  encoder = clip_encoders.build("video_resnet/nano")
  params, statistics = clip_encoders.template(encoder)
  drawn = jax.tree.map(lambda x: RNG.standard_normal(x.shape).astype(x.dtype), (params, statistics))
  rules = clip_encoders.FAMILIES["video_resnet"].rules(encoder.config)
  published = export_params(clip_encoders.merged(*drawn), rules)
  array_files.write_safetensors(tmp_path / "x.safetensors", published, {})
  wrapped = {"state_dict": {f"module.{k}": tensor(np.asarray(x)) for k, x in published.items()}}
  save(tmp_path / "x.pth", wrapped | {"epoch": 4}, old=True)
  one, other = (clip_encoders.load(tmp_path / name) for name in ("x.safetensors", "x.pth"))
  jax.tree.map(np.testing.assert_array_equal, one[1:], other[1:])


def test_an_archive_is_no_npz_and_an_npz_no_archive(tmp_path):
  np.savez(tmp_path / "x.npz", a=np.ones(2))
  assert array_files.kind_of(tmp_path / "x.npz") == "npz"
  assert list(parameter_files.read(tmp_path / "x.npz")[0]) == ["a"]
  save(tmp_path / "x.pt", {"strange": tensor(np.ones(2, np.float32))})
  with pytest.raises(ValueError, match="strange"):
    zoo.load(tmp_path / "x.pt")


# --- hostile and damaged files ---


class Evil:
  def __reduce__(self):
    return print, ("executed",)


@both
def test_nothing_is_executed(tmp_path, capsys, old):
  save(tmp_path / "x.pt", {"x": tensor(np.ones(1)), "evil": Evil()}, old=old)
  with pytest.raises(RefusedError, match=r"x\.pt: refused: the pickle requests .*print"):
    torch_files.read_torch(tmp_path / "x.pt")
  assert "executed" not in capsys.readouterr().out


@both
@pytest.mark.parametrize(
  "size, stride, offset",
  [((5,), (1,), 0), ((2,), (4,), 0), ((1,), (1,), 4), ((2**40,), (0,), 0), ((2, 2), (1,), 0)],
)
def test_tensors_never_reach_outside_of_their_storage(tmp_path, size, stride, offset, old):
  save(tmp_path / "x.pt", [Tensor(Storage(np.ones(4)), offset, size, stride)], old=old)
  with pytest.raises(RefusedError, match="a tensor of shape"):
    torch_files.read_torch(tmp_path / "x.pt")


def test_many_views_of_one_storage_are_not_many_times_its_memory(tmp_path):
  storage = Storage(np.ones(2**18))  # 2 MiB; 64 MiB are allowed to any file
  save(tmp_path / "x.pt", [Tensor(storage, 0, (2**18,), (1,)) for _ in range(60)])
  with pytest.raises(RefusedError, match="several times as large as the file"):
    torch_files.read_torch(tmp_path / "x.pt")


@both
def test_damage_anywhere_is_an_error_or_leaves_the_arrays_whole(tmp_path, old):
  path = tmp_path / "x.pt"
  save(path, {"x": tensor(np.arange(6.0))}, old=old)
  whole = path.read_bytes()
  for cut in range(0, len(whole), 7):
    path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match="x.pt"):
      parameter_files.read(path)
  for at in range(0, len(whole), 5):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    try:
      found = parameter_files.read(path)[0]
    except ValueError:
      continue
    assert all(x.nbytes <= 4096 for x in found.values())


def test_what_torch_never_writes_is_refused(tmp_path):
  tree = {"x": tensor(np.ones(100))}
  save(tmp_path / "x.pt", tree, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(RefusedError, match="compressed or encrypted"):
    torch_files.read_torch(tmp_path / "x.pt")
  save(tmp_path / "x.pt", tree, byteorder=b"big")
  with pytest.raises(RefusedError, match="big-endian"):
    torch_files.read_torch(tmp_path / "x.pt")
  save(tmp_path / "x.pt", {"epoch": 1})
  with pytest.raises(ValueError, match="without a single array"):
    torch_files.read_torch(tmp_path / "x.pt")
  save(tmp_path / "x.pt", tree)
  with zipfile.ZipFile(tmp_path / "x.pt") as archive:
    members = {n: archive.read(n) for n in archive.namelist() if n != "archive/data/0"}
  with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  with pytest.raises(RefusedError, match="storage '0' is not in the archive"):
    torch_files.read_torch(tmp_path / "y.pt")
  (tmp_path / "empty.pt").touch()
  with pytest.raises(ValueError, match="an empty file"):
    torch_files.read_torch(tmp_path / "empty.pt")


def test_a_plain_pickle_names_nothing_of_torch():
  program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n."
  with pytest.raises(RefusedError, match="requests torch._utils._rebuild_tensor_v2"):
    pickles.load_pickle(program, "x")
  outside = pickle.PROTO + b"\x02" + pickle.NONE + pickle.BINPERSID + pickle.STOP
  with pytest.raises(RefusedError, match="uses BINPERSID"):
    pickles.load_pickle(outside, "x")
