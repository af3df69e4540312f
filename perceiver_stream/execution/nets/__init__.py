"""Networks of single frames as lists of layers, to be partitioned into stages."""
