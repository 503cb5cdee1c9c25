"""Reward models on torch: loading, batches, and what is kept between requests."""
