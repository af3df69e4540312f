"""`perceiver-stream export` for a checkout."""

from perceiver_stream.cli.export import main

if __name__ == "__main__":
  main()
