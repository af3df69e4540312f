"""`perceiver-stream latents` for a checkout."""

from perceiver_stream.cli.latents import main

if __name__ == "__main__":
  main()
