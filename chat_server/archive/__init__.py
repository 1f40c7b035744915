"""The archive: every stored event of the namespaces that ask for it, in the database."""
