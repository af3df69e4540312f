"""`perceiver-stream media` for a checkout."""

from perceiver_stream.cli.media import main

if __name__ == "__main__":
  main()
