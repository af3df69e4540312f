"""`perceiver-stream lab` for a checkout."""

from perceiver_stream.cli.lab import main

if __name__ == "__main__":
  main()
