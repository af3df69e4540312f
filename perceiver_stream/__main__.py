"""`python -m perceiver_stream COMMAND ...`, where `perceiver-stream` is not on the path."""

from perceiver_stream.cli import start

if __name__ == "__main__":
  start()
