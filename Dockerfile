# etl with all that it can do: workers, HTTP server, JupyterLab. See compose.yaml.
FROM python:3.13-slim

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY etl etl
COPY notebooks notebooks
COPY data data
RUN pip install --no-cache-dir -c constraints.txt '.[notebook,postgres,server]'

# Logs to read are mounted at /logs, output is written to /data: both the same on every machine.
RUN useradd --create-home etl && mkdir -p /data /logs && chown etl /data /logs
USER etl
VOLUME ["/data", "/logs"]
ENTRYPOINT ["etl"]
CMD ["--help"]
