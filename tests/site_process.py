"""The tests' site in a process of its own: database, settings as JSON; prints its port."""

import json
import sys

import django


def main() -> None:
    django.setup()
    from django.conf import settings
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application
    from django.db import connection

    connection.settings_dict["NAME"] = sys.argv[1]
    for name, value in json.loads(sys.argv[2]).items():
        setattr(settings, name, value)
    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
