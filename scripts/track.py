"""`perceiver-stream track` for a checkout."""

from perceiver_stream.cli.track import main

if __name__ == "__main__":
  main()
