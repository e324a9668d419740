"""Recorded questions put to the lab, and its answers compared with the recorded ones."""
