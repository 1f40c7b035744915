FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY config config
COPY chat_server chat_server
RUN python -m venv /opt/chat-server \
    && /opt/chat-server/bin/pip install --no-cache-dir --constraint constraints.txt '.[postgresql]'

FROM python:3.13-slim
# The number rather than the name lets Kubernetes see that it is not root.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin chat
COPY --from=build /opt/chat-server /opt/chat-server
ENV PATH=/opt/chat-server/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CHAT_ENVIRONMENT=production \
    CHAT_SERVER__BIND=0.0.0.0:8000
USER 10001
EXPOSE 8000
# Liveness, not readiness: a container must not be replaced because Redis is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
# Secrets come from outside: CHAT_AUTH__SECRET or a mounted CHAT_AUTH__PUBLIC_KEY_FILE.
ENTRYPOINT ["chat-server"]
CMD ["serve"]
