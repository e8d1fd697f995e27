"""What changes the status of a stored message or delivery. Each change is one transaction with its event.

Files: ``record`` keeps the results of attempts, and what people cancel or retry; ``effects`` what deliveries
on this machine change; ``holding`` holds the mail of
suspended tenants, and makes it due again; ``rescheduling`` moves the next attempt; ``stopping`` ends
deliveries to suppressed recipients; ``circuits`` tells of accounts that are paused; ``refused_files`` of
files that were refused.
"""
