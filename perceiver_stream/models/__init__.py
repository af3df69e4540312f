"""Whole models: tokenise, recur, decode; each under the contract of `models.base`."""
