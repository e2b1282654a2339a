"""Hosts of emulated microcontrollers: serial lines, paced and reachable by TCP, and the watch over machines."""
