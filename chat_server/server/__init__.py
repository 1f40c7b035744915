"""The life of the server's processes; each module is imported by itself, the light ones first."""
