"""`perceiver-stream classify` for a checkout."""

from perceiver_stream.cli.classify import main

if __name__ == "__main__":
  main()
