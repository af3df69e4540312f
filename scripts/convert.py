"""`perceiver-stream convert` for a checkout."""

from perceiver_stream.cli.convert import main

if __name__ == "__main__":
  main()
