"""Keys of scores: text and back, in order; text that is none is refused."""

import itertools

import pytest

from perceiver_stream.reporting.score_keys import (
  ScoreKey,
  is_score_key,
  pixels_first,
  reference,
)

KEYS = [
  ScoreKey(*x) for x in itertools.product(("audio", "pixels", "pixels_flow", "a/b"), (0, 4, 16))
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_is_what_its_text_says(key: ScoreKey) -> None:
  assert ScoreKey.parse(str(key)) == key and is_score_key(f"{key}")
  assert not is_score_key(f"{key}/model")  # errors of a predictor, in files of strips


@pytest.mark.parametrize(
  "text",
  ["", "pixels", "pixels@", "@1", "a@b@1", "a@-1", "a@01", "a@1.0", "a@²", "a@1\n", "a@9999999999"],
)
def test_other_text_is_no_key(text: str) -> None:
  assert not is_score_key(text)
  with pytest.raises(ValueError, match="is no key of scores; expected <output>@<displacement>"):
    ScoreKey.parse(text)


def test_keys_sort_by_output_then_near_before_far() -> None:
  texts = ["pixels@16", "pixels@4", "audio@1", "pixels_flow@0"]
  assert sorted(texts, key=ScoreKey.parse) == ["audio@1", "pixels@4", "pixels@16", "pixels_flow@0"]
  first = sorted(map(ScoreKey.parse, texts), key=pixels_first)
  assert [str(key) for key in first] == ["pixels@4", "pixels@16", "audio@1", "pixels_flow@0"]


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["model", "mix", "copy", "copy_psnr"], "copy"),
    (["count", "valid", "model", "zero_flow", "mean"], "mean"),
    (["model", "model_psnr", "count"], None),
  ],
)
def test_gains_are_over_copying_where_there_is_such_a_baseline(names, expected) -> None:
  assert reference(names) == expected
