"""Saved models: a folder in the Hub's form, written, read, described and pushed."""
