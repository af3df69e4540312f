"""Networks of single frames as lists of layers, to cut into stages."""
