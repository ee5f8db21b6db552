"""OpenAI API: models behind a server that speaks the OpenAI-compatible API.

`engine` opens a `session`. `requests` sends each request until it has its reply, with the body of `payloads` through
`client`; `errors` sorts what went wrong, `rate_limits` and `rate_headers` keep to what the server allows, and `budget`
to what the user allows. In batch mode, `batches` submits jobs to the endpoints of `batch_endpoints` instead.
"""
