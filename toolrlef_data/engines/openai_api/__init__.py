"""OpenAI API: the engine for servers with an OpenAI-compatible API.

`engine` opens a `session`. `requests` sends each request and retries it, with the bodies of `payloads` over the
connection of `client`. `errors` classifies failures, `scheduler`, `rate_limits` and `rate_headers` respect the server's
limits, and `budget` enforces the user's caps. In batch mode, `batches` submits jobs to the endpoints of
`batch_endpoints` instead.
"""
