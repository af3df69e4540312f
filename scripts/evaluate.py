"""`perceiver-stream evaluate` for a checkout."""

from perceiver_stream.cli.evaluate import main

if __name__ == "__main__":
  main()
