"""`perceiver-stream lab` for a checkout."""

from perceiver_stream.utils.allocator import restart_with_huge_pages

if __name__ == "__main__":
  restart_with_huge_pages()  # before the imports, which take seconds

from perceiver_stream.cli.lab import main  # noqa: E402

if __name__ == "__main__":
  main()
