"""`perceiver-stream animate` for a checkout."""

from perceiver_stream.cli.animate import main

if __name__ == "__main__":
  main()
