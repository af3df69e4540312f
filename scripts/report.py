"""`perceiver-stream report` for a checkout."""

from perceiver_stream.cli.report import main

if __name__ == "__main__":
  main()
