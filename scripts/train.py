"""`perceiver-stream train` for a checkout."""

from perceiver_stream.cli.train import main

if __name__ == "__main__":
  main()
