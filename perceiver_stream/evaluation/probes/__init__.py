"""Questions to a frozen model that need no training: do its latents follow things?"""
