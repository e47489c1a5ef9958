"""The nouns that the stages share: tables, images, hashes, models."""
