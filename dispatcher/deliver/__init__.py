"""Deliver: lanes → envelope → sign → send → verdict → record.

`subscribers` holds what is known of endpoints, `send` sends and judges, `record` writes down what came of it, `feed` brings
endpoints and due deliveries into memory, `reap` ends deliveries that nobody can have. They share one process and one event
loop, and are never called from two threads.
"""
