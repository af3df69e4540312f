"""Reading files of strangers: what they may ask for, and nothing executed.

`limits` says how much memory a file may ask for and opens regular files only; `array_files` reads .npz,
.safetensors and pickles of arrays; `pickles` interprets pickles without running them; `codec`
writes configs as JSON and checks them as it reads them.
"""
