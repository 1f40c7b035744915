"""The life of the server's processes; import each module separately, the light ones first."""
