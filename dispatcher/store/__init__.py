"""The only SQL: connections, the query loader, migrations, and one module with its `.sql` file per kind of row.

Opens no transactions (`migrate` aside, whose transactions are the migrations): the callers decide what belongs together.
"""
