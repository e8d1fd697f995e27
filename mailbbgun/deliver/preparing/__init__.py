"""What comes before a transaction is sent: its claims are grouped, its message is opened."""
