"""The HTTP server's program: the environment of a host finds it by its name."""

import sys

if __name__ == "__main__":
    from lightllm.server.api_http import serve

    host, _colon, port = sys.argv[sys.argv.index("--bind") + 1].rpartition(":")
    serve(host, int(port))
