"""The ground floor: code that every other room may use, and that needs neither web nor database.

Files: `errors` is the tree of our errors, `clock`, `ids` and `logs` are what their names say.
`addresses` checks one e-mail address. `net` decides which hosts tenants may name as mail servers,
`hosts` which host names this service answers for. `caller` describes the client of a request.
`process` starts and ends our programs, `outages` logs servers that are away, and `faults` has the
points at which tests kill a process.
"""
