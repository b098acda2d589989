# One image for every role; the command says which. Runs as an account without rights.
#
#   docker build -t lading .                              the server
#   docker build -t lading-mailcatcher --target mailcatcher .
#
# Kinds of your own: mount them, or build on top of it (CONTRIBUTING.md, "Add a kind of your own").
FROM python:3.11-slim AS server

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN useradd --system --uid 10001 --create-home --home-dir /srv/lading lading
WORKDIR /srv/lading

COPY requirements/server.lock requirements/server.lock
RUN pip install --require-hashes -r requirements/server.lock

COPY alembic.ini ./
COPY migrations migrations
COPY lading lading
COPY jobs jobs
COPY kinds kinds
COPY api api
COPY worker worker
RUN python -m compileall -q . && install -d -o lading -g lading /srv/lading/files

ENV PYTHONPATH=/srv/lading:/srv/kinds \
    LADING_FILES_DIR=/srv/lading/files
USER lading
EXPOSE 8000
CMD ["uvicorn", "api.main:app", "--host", "0.0.0.0", "--port", "8000", \
     "--ws-max-size", "2097152", "--ws-per-message-deflate", "false", "--timeout-graceful-shutdown", "20"]


# A real SMTP server that keeps what it is sent, with a page to read it: for trying things out.
FROM server AS mailcatcher
USER root
COPY requirements/mailcatcher.lock requirements/mailcatcher.lock
RUN pip install --require-hashes -r requirements/mailcatcher.lock
COPY dev dev
RUN install -d -o lading -g lading /srv/lading/mail
USER lading
EXPOSE 1025 8025
CMD ["python", "-m", "dev.mail", "--host", "0.0.0.0", "--smtp-port", "1025", "--http-port", "8025", \
     "--dir", "/srv/lading/mail"]


# What `docker build` makes when nothing is named.
FROM server
