"""Licences: signed tokens that say what a customer of a tenant may use, and the seats of each.

In: a licence to issue; a token that a customer's machine shows. Out: tokens (JWS, Ed25519) that
anybody verifies offline with the keys at ``/.well-known/jwks.json``, leases of seats, and the list
of revoked licences. Promises: no more machines than a licence has seats hold an unexpired lease of
it, however many ask at once; only Ed25519 signatures of our own keys are accepted, each for the
purpose that its ``typ`` names; a signing key's public half stays published while anything that it
signed is in force.

Files: `api` and `schemas` are the resources. `tokens` signs and reads tokens, `keys` has the
signing keys, `state` says whether a licence is in force. `issue` issues, renews and revokes;
`seats` serves machines; `mail` sends a token to its owner; `limit` bounds requests without a key.
`models` has the tables, `repo` the queries.
"""
