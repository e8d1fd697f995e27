"""HTTP requests to servers that tenants name: webhooks, Slack, inbound routes.

In: a URL, a body, headers, and how long it may take in all. Out: an answer, or one reason why there is none.
Promise: nothing is sent to a host that is not permitted, whatever its DNS says and whatever it redirects to; a
request ends in time, even if its answer trickles; no answer takes more memory than the caller asked for.

Files: ``urls`` reads and judges URLs, ``look_up`` bounds the time of the DNS, ``connections`` makes connections to
judged addresses, ``http`` sends requests over them and keeps them open. ``signing`` signs bodies as Standard
Webhooks says, ``multipart`` writes forms with files.
"""
