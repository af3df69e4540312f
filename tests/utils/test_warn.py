"""Warnings point at the line of the user that led to them."""

import inspect
import warnings

import pytest

from perceiver_stream.utils.warn import warn

# The type checks of the tests put frames of their own between ours: without them.
PLAIN = inspect.unwrap(warn)


def deep_inside(name):
  """Returns a function of a module of that name, that warns two calls down."""
  module = {"__name__": name, "warn": PLAIN}
  exec(
    "def inner():\n  warn('old name', DeprecationWarning)\ndef outer():\n  inner()\n",
    module,
  )
  return module["outer"]


@pytest.mark.parametrize("name", ["perceiver_stream.zoo.loading", "perceiver_stream"])
def test_the_line_outside_the_package_is_named(name):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    deep_inside(name)()
  assert [w.filename for w in caught] == [__file__]


def test_other_packages_are_users_too():
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    deep_inside("perceiver_streams.copy")()
  assert [w.filename for w in caught] == ["<string>"]


def test_a_call_with_nobody_outside_warns_all_the_same():
  with pytest.warns(UserWarning, match="alone"):
    warn("alone", UserWarning)
