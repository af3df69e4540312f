"""`perceiver-stream shards` for a checkout."""

from perceiver_stream.cli.shards import main

if __name__ == "__main__":
  main()
