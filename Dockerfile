# One image for one machine: the app, its models, not root. Votes and pictures live in the volume /data.
#   docker build -t few-step . && docker run -p 7860:7860 -v few-step-data:/data few-step
# On a machine without a GPU, let TORCH_INDEX name PyTorch's index of CPU wheels; with one, leave it empty and run with --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=
RUN useradd --uid 1000 --create-home app && install -d -o app -g app /data /app
WORKDIR /app

# Packages first: they change less often than the code.
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX}

# The same files as a Space has (hosting/space.py), and nothing that the app could write to.
COPY app.py README.md CHANGELOG.md LICENSE ./
COPY tdm_core tdm_core
COPY train train
COPY assets assets
COPY hosting hosting
COPY benchmarks benchmarks

USER app
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 TDM_DATA_DIR=/data HOME=/data \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GRADIO_ANALYTICS_ENABLED=False
VOLUME /data
EXPOSE 7860
# Weights load after the page answers, so a healthy container may still be warming up.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 CMD ["python", "-m", "hosting.health"]
STOPSIGNAL SIGTERM
CMD ["python", "app.py"]
