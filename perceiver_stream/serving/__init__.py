"""Models on live streams: a session per stream, the page that shows it, and a server of models.

`perceiver-stream live` and `perceiver-stream serve` run it. The web parts need the extra `live`.
"""
