"""Probes of a frozen model without training: do its latents follow objects?"""
