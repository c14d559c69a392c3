"""Signing profiles: the headers by which systems that people move from prove their requests.

An endpoint has any number of them beside the Standard Webhooks headers. Most are declarations (`declared`), data like a
payload format; what a declaration cannot say is code (`healthie`, `rfc9421`). `known` finds them by their names.
"""
