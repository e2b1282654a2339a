"""Bridges from the gateway to vehicles and robots."""
