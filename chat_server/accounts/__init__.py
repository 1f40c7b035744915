"""Users with passwords: who they are, how they sign in and stay signed in, and who may sign up."""
