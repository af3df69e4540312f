"""The largest values of an array; among equal ones, those that the released code's library takes.

Which of several equal values are among the k largest decides where a joint is put and whose label
is kept. `torch.topk` on a CPU takes those left by the selection of the C++ library: a
heap of k where k is small compared with the number of values, a partition around pivots elsewhere. Both
are redone here on indices, one comparison after the other, so that the same values are taken.

Source: pytorch/pytorch:aten/src/ATen/native/TopKImpl.h (which of both, and the comparison), and the
selection algorithms of GCC's C++ library as it documents them (`partial_sort`, `nth_element`).
"""

import numpy as np
from jaxtyping import Integer, Num

_HEAP_FROM = 64  # values for each of the k: from there on a heap is used


def top_k(values: Num[np.ndarray, " N"], k: int) -> Integer[np.ndarray, " K"]:
  """Returns the indices of the `k` largest values, in no order; of all where there are fewer.

  >>> sorted(top_k(np.array([1.0, 3.0, 3.0, 2.0, 3.0]), 3).tolist())
  [1, 2, 4]

  Args:
    values: Compared as they are: equal to the last bit is equal.
    k: At least 1.
  """
  k = min(k, len(values))
  chosen = np.argpartition(values, -k)[-k:]
  smallest = values[chosen].min()
  if np.sum(values == smallest) == np.sum(values[chosen] == smallest):
    return chosen  # no choice
  take = _by_heap if _HEAP_FROM * k <= len(values) else _by_partition
  return np.asarray(take(values.tolist(), k))


def _by_heap(values: list[float], k: int) -> list[int]:
  """Builds a heap of the best k so far, the worst of them on top."""
  heap = list(range(k))
  for hole in reversed(range(k // 2)):
    _sift(heap, values, hole, heap[hole])
  for index in range(k, len(values)):
    if values[index] > values[heap[0]]:
      _sift(heap, values, 0, index)
  return heap


def _sift(heap: list[int], values: list[float], top: int, index: int) -> None:
  """Replaces `top` by an index: the hole sinks to a leaf, the index rises from there."""
  size, hole = len(heap), top
  while (child := 2 * hole + 2) < size:
    child -= values[heap[child]] > values[heap[child - 1]]
    heap[hole], hole = heap[child], child
  if child == size:  # a last child without a sibling
    heap[hole], hole = heap[child - 1], child - 1
  while hole > top and values[heap[(hole - 1) // 2]] > values[index]:
    heap[hole], hole = heap[(hole - 1) // 2], (hole - 1) // 2
  heap[hole] = index


def _by_partition(values: list[float], k: int) -> list[int]:
  """Partitions around pivots until few are left on both sides of the k-th, and sorts those."""
  order = list(range(len(values)))
  first, last = 0, len(order)
  rounds = 2 * (len(order).bit_length() - 1)
  while last - first > 3:
    if not rounds:  # pivots were bad for too long
      rest = order[first:last]
      best = _by_heap([values[index] for index in rest], k - first)
      return order[:first] + [rest[place] for place in best]
    rounds -= 1
    _pivot_to_front(order, values, first, last)
    cut = _partition(order, values, first, last)
    first, last = (cut, last) if cut < k else (first, cut)
  order[first:last] = sorted(order[first:last], key=lambda index: -values[index])
  return order[:k]


def _pivot_to_front(order: list[int], values: list[float], first: int, last: int) -> None:
  """Swaps the median of the second, the middle and the last one with the first."""
  a, b, c = first + 1, first + (last - first) // 2, last - 1
  high, low = (a, b) if values[order[a]] > values[order[b]] else (b, a)
  median = low
  if not values[order[low]] > values[order[c]]:
    median = c if values[order[high]] > values[order[c]] else high
  order[first], order[median] = order[median], order[first]


def _partition(order: list[int], values: list[float], first: int, last: int) -> int:
  """Moves elements above the pivot, which is first, to the left; returns the start of the rest."""
  pivot, left, right = values[order[first]], first + 1, last
  while True:
    while values[order[left]] > pivot:
      left += 1
    right -= 1
    while pivot > values[order[right]]:
      right -= 1
    if left >= right:
      return left
    order[left], order[right] = order[right], order[left]
    left += 1
