"""The archive: every stored event of namespaces with `archive`, in the database."""
