"""The revisions of the schema, one behind the other."""
