"""ROS 2 bags in SQLite: an index of their messages, and the messages.

A database may hold views, triggers and computed columns that run for ever, so only tables of stored
columns are read, with a bound on the work of each query and on the size of a value. Messages are
found by their `rowid`, without a search, also where a table has no key.

The file is read as it is: SQLite neither writes it nor takes over the `-wal` file of a recorder that
crashed, whose messages count as lost.

Source: the schema of rosbag2_storage_sqlite3.
"""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.streams.bag_index import Entries, open_regular
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.utils.paths import user_path

MAGIC = b"SQLite format 3\0"
_STEPS = 10_000  # of SQLite's machine, between two looks at how much there were
_MOST_LOOKS = 20 * limits.MAX_MESSAGES // _STEPS  # a message takes about 10 steps
_LOOKS_TO_READ = 2  # of one message: steps of the reads before count for the first look
_WAL = "-wal"  # appended to the name of a database: what its recorder had not moved into it
_BATCH = 4096


class SqliteFile:
  """One open .db3 file.

  Attributes:
    topics: With all their messages.
  """

  def __init__(self, path: str, ledger: Ledger):
    """Opens a file and indexes it.

    Args:
      path: Of the file.
      ledger: Receives damage.

    Raises:
      DamagedError: It is no bag.
      RefusedError: It asks for more than the limits.
    """
    self._path, self._ledger, self._looks = path, ledger, 0  # looks left
    file, _ = open_regular(path)
    with file:
      if file.read(len(MAGIC)) != MAGIC:
        raise DamagedError(f"{path} is no ROS 2 bag: it is no SQLite database.")
    self._book_wal()
    uri = f"{user_path(path).absolute().as_uri()}?mode=ro&immutable=1"
    self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
      self._restrict()
      self.topics = self._index()
    except BaseException:
      self.close()
      raise

  def close(self) -> None:
    """Closes the file."""
    self._database.close()

  def read(self, place: np.ndarray) -> bytes:
    """Returns the bytes of a message; DamagedError if there is none of this `rowid`."""
    with self._errors(_LOOKS_TO_READ):
      row = self._database.execute(
        "SELECT data FROM messages WHERE rowid = ?", (int(place[1]),)
      ).fetchone()
    if row is None or not isinstance(row[0], bytes):
      raise DamagedError(f"{self._path} is damaged: message {int(place[1])} has no data")
    return row[0]

  def _book_wal(self) -> None:
    wal = user_path(self._path + _WAL)
    if wal.is_file() and (size := wal.stat().st_size):
      self._ledger.book(
        "lost",
        f"{size} bytes of messages are in {wal}, which its recorder left behind, and are not read. To "
        f'move them into the file, run: sqlite3 {self._path} "PRAGMA wal_checkpoint(TRUNCATE)"',
      )

  def _restrict(self) -> None:
    self._database.execute("PRAGMA trusted_schema = OFF")
    self._database.execute("PRAGMA cell_size_check = ON")
    self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.MAX_CHUNK_BYTES)
    self._database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    self._database.set_progress_handler(self._count_looks, _STEPS)

  def _count_looks(self) -> int:
    self._looks -= 1
    return int(self._looks < 1)  # anything but 0 ends the query

  @contextlib.contextmanager
  def _errors(self, looks: int) -> Iterator[None]:
    """Turns errors of SQLite into DamagedError, also that of a query that takes too many steps."""
    self._looks = looks
    try:
      yield
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
      raise DamagedError(f"{self._path} is damaged, or no ROS 2 bag: {error}.") from error

  def _index(self) -> list:
    entries = Entries(self._path)
    with self._errors(_MOST_LOOKS):
      tables = self._database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
      ).fetchmany(1000)
      if missing := {"topics", "messages"} - {str(name) for (name,) in tables}:
        raise DamagedError(f"{self._path} is no ROS 2 bag: it has no table {sorted(missing)}.")
      self._check_columns()
      topics = self._database.execute("SELECT id, name, type, serialization_format FROM topics")
      for number, *texts in topics.fetchmany(2**16):
        if type(number) is not int:
          raise DamagedError(
            f"{self._path} is damaged: the topic {str(texts[0])[:80]!r} has an id that is no number."
          )
        entries.add_channel(number, *(str(text) for text in texts))
      rows = self._database.execute("SELECT topic_id, rowid, timestamp FROM messages")
      while batch := rows.fetchmany(_BATCH):
        self._add(entries, batch)
    return entries.topics()

  def _check_columns(self) -> None:
    for table in ("topics", "messages"):
      for _, name, *_, hidden in self._database.execute(f"PRAGMA table_xinfo({table})"):
        if hidden:
          raise DamagedError(
            f"{self._path} is no ROS 2 bag: column {str(name)[:80]!r} of its table {table} is computed."
          )

  def _add(self, entries: Entries, batch: list) -> None:
    """Adds rows of topic, id and time."""
    if not all(type(value) is int for row in batch for value in row):
      raise DamagedError(
        f"{self._path} is damaged: a message has a topic or time that is no number."
      )
    batch.sort(key=lambda row: row[0])
    for topic, group in itertools.groupby(batch, key=lambda row: row[0]):
      rows = [*group]
      entries.add(topic, (time for _, _, time in rows), ((0, number) for _, number, _ in rows))
