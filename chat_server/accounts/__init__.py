"""Users with passwords: accounts, sign-in, refresh tokens, and sign-up."""
