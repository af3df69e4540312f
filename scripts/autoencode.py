"""`perceiver-stream autoencode` for a checkout."""

from perceiver_stream.cli.autoencode import main

if __name__ == "__main__":
  main()
