"""`perceiver-stream serve` for a checkout."""

from perceiver_stream.cli.serve import main

if __name__ == "__main__":
  main()
