"""`perceiver-stream predict` for a checkout."""

from perceiver_stream.cli.predict import main

if __name__ == "__main__":
  main()
