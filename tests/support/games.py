"""What the game of the ViZDoom stream can do on this machine."""

from perceiver_stream.streams import sim_doom, vizdoom


def has_sound() -> bool:
  """Returns whether the game can be heard; OpenAL is a library of the system, in no extra."""
  try:
    sim_doom.check_openal()
  except RuntimeError:
    return False
  return True


HAS_SOUND = has_sound()
NO_SOUND = "no sound from the game: install OpenAL (Debian, Ubuntu: apt-get install libopenal1)"
AUDIO_RATE_HZ = 22050 if HAS_SOUND else 0
MODALITIES = tuple(m for m in vizdoom.MODALITIES if HAS_SOUND or m not in vizdoom.SOUND)
