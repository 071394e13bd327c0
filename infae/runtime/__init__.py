"""Devices, memory, cores, progress bars."""
