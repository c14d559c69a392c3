"""Definitions of payload formats: named, versioned, ordered lists of fields, read from TOML or JSON and compiled.

A definition is data that an operator writes; what it cannot say, an expression in CEL can. Parts of the payload are
copied as they were inserted, without being written anew: `1.10` stays `1.10`, and the order of keys stays.
"""
