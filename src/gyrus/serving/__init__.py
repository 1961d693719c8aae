"""A server that answers with a bundle: HTTP API and web page, without PyTorch."""
