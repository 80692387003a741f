"""The verified store: fetching files of weights, without torch."""

from zoo_core.store.fetching import WeightsFile, cached, fetch, fetch_again, fetch_whole

__all__ = ["WeightsFile", "cached", "fetch", "fetch_again", "fetch_whole"]
