"""`perceiver-stream live` for a checkout."""

from perceiver_stream.cli.live import main

if __name__ == "__main__":
  main()
