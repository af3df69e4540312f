"""Readers for untrusted files: bounded memory, and no code is executed.

`limits` bounds the memory that a file can claim and opens regular files only; `array_files` reads
.npz, .safetensors and pickles of arrays; `pickles` interprets pickles without running them; `codec`
writes configs as JSON and validates them when it reads them.
"""
