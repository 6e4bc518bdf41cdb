"""Admission: keys, rate limits, concurrency and queues."""
