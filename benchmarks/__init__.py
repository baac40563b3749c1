"""Measurements that print a table and store JSON with versions and machine."""
