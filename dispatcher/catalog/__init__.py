"""The event types that are known beforehand, described by AsyncAPI 3.0 documents: read, checked, looked up, given out.

`documents` reads files, `checking` finds what is wrong with them, `reading` finds the event types in them, `catalog` is
what others ask, `export` and `page` give it out as AsyncAPI and as HTML. All of it is pure.
"""
