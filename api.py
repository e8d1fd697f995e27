"""The HTTP API: ``gunicorn api:app``, or ``python api.py``, which becomes that."""

if __name__ == "__main__":
    from mailbbgun.environment import need

    need("api", serves=True, reloads=True)
    from mailbbgun.core.process import run
    from mailbbgun.run import become_the_api

    run("api", become_the_api)

from mailbbgun.app import create_app

app = create_app()
