"""Rollouts: the one loop, and what is made of it."""
