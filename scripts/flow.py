"""`perceiver-stream flow` for a checkout."""

from perceiver_stream.cli.flow import main

if __name__ == "__main__":
  main()
